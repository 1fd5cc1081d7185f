/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exports.c: see exports.h.  A name is published, and withdrawn, by one store to its entry's word.
 *
 * A reader goes through the entries in their order.  It may miss a name that moves from a higher
 * entry to a lower one meanwhile; but that is withdrawn before it is published anew, so there was a
 * moment at which the name was absent.
 */
#include "exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kill_points.h"

size_t export_record_bytes(const struct export_record *record)
{
    return sizeof *record + 2 * record->ndim * sizeof record->dims[0] + record->name_bytes +
           record->dtype_bytes;
}

/* FNV-1a. */
uint32_t exports_hash(const char *name, size_t bytes)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619U;
    return hash;
}

void exports_begin(struct sharing *sharing, uint64_t generation)
{
    /* By the golden ratio, so that near generations are far from each other: their entries would be
     * used some hundred thousand times before they meet. */
    sharing->first_version = ((uint32_t)generation * 2654435769U) >> (32 - SHARED_VERSION_BITS);
}

uint64_t exports_next(const struct sharing *sharing, uint32_t hash, uint32_t *index)
{
    uint32_t used = atomic_load(&sharing->exports.used);

    for (; *index < used; ++*index) {
        uint64_t word = atomic_load(&exports_at(sharing, *index)->word);
        if (word >> 32 == hash && exports_state(word) == EXPORT_PUBLISHED)
            return word;
    }
    return 0;
}

/* Under the lock nobody frees a record. */
static bool is_taken(const struct sharing *sharing, uint32_t hash,
                     const struct export_record *wanted)
{
    for (uint32_t index = 0; exports_next(sharing, hash, &index); index++) {
        const struct export_record *record = atomic_load(&exports_at(sharing, index)->record);
        if (record->name_bytes == wanted->name_bytes &&
            memcmp(export_name(record), export_name(wanted), record->name_bytes) == 0)
            return true;
    }
    return false;
}

int exports_add(struct sharing *sharing, struct export_record *record, uint64_t *id)
{
    uint32_t hash = exports_hash(export_name(record), record->name_bytes);
    int64_t index;

    table_lock(&sharing->exports);
    if (is_taken(sharing, hash, record))
        index = -EBUSY;
    else
        index = table_take(&sharing->exports, sizeof(struct export_entry));
    if (index >= 0) {
        struct export_entry *entry = exports_at(sharing, (uint32_t)index);
        uint64_t old = atomic_load(&entry->word);
        uint64_t version = old ? old >> 4 & SHARED_VERSION_MASK : sharing->first_version;
        uint64_t word = (uint64_t)hash << 32 | version << 4 | EXPORT_PUBLISHED;
        KILL_POINT(EXPORT_TAKEN);
        atomic_store(&entry->record, record);
        atomic_store(&entry->marks, 0);
        atomic_fetch_add(&sharing->published, 1);
        atomic_fetch_add(&sharing->kept, record->flags & AIOPIP_EXPORT_KEEP ? 1 : 0);
        KILL_POINT(EXPORT_FILLED);
        *id = exports_id((uint32_t)index, word);
        atomic_store(&entry->word, word);
        KILL_POINT(EXPORT_PUBLISHED);
    }
    table_unlock(&sharing->exports);
    return index < 0 ? (int)index : 0;
}

int exports_withdraw(struct sharing *sharing, uint64_t id)
{
    uint32_t index = exports_index(id);
    int result = -ENOENT;

    table_lock(&sharing->exports);
    if (index < atomic_load(&sharing->exports.used)) {
        struct export_entry *entry = exports_at(sharing, index);
        uint64_t word = atomic_load(&entry->word);
        if (exports_state(word) == EXPORT_PUBLISHED && exports_id(index, word) == id) {
            const struct export_record *record = atomic_load(&entry->record);
            atomic_store(&entry->word, (word & ~0xfUL) | EXPORT_WITHDRAWN);
            KILL_POINT(WITHDRAW_MARKED);
            atomic_fetch_sub(&sharing->published, 1);
            atomic_fetch_sub(&sharing->kept, record->flags & AIOPIP_EXPORT_KEEP ? 1 : 0);
            result = 0;
        }
    }
    table_unlock(&sharing->exports);
    return result;
}

bool exports_next_withdrawn(const struct sharing *sharing, uint32_t *index, uint64_t *id)
{
    uint32_t used = atomic_load(&sharing->exports.used);

    for (; *index < used; ++*index) {
        uint64_t word = atomic_load(&exports_at(sharing, *index)->word);
        if (exports_state(word) == EXPORT_WITHDRAWN) {
            *id = exports_id(*index, word);
            return true;
        }
    }
    return false;
}

struct export_record *exports_free(struct sharing *sharing, uint64_t id)
{
    uint32_t index = exports_index(id);
    struct export_record *record = NULL;

    table_lock(&sharing->exports);
    struct export_entry *entry = exports_at(sharing, index);
    uint64_t word = atomic_load(&entry->word);
    if (exports_state(word) == EXPORT_WITHDRAWN && exports_id(index, word) == id) {
        uint64_t version = ((word >> 4) + 1) & SHARED_VERSION_MASK;
        record = atomic_exchange(&entry->record, NULL);
        KILL_POINT(FREE_RECORD);
        atomic_store(&entry->word, version << 4 | EXPORT_FREE);
        table_give(&sharing->exports, index, sizeof *entry);
    }
    table_unlock(&sharing->exports);
    return record;
}

void exports_free_all(struct sharing *sharing)
{
    for (uint32_t i = 0; i < atomic_load(&sharing->exports.used); i++)
        free(atomic_load(&exports_at(sharing, i)->record));
    table_free(&sharing->exports);
}
