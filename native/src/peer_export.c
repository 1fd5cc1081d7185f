/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peer_export.c: what a process of the space exports, and what it holds of others for that.
 */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exports.h"
#include "holds.h"
#include "kill_points.h"

/* The hold by which we have memory that is somebody else's; NULL when it is our own, though we may
 * have imported that, too: then each export is withdrawn for itself.  One of just what was imported
 * before one of all that a peer has.  Under the table's lock nobody drops one. */
static const struct hold_entry *hold_of(const struct aiopip_peer *self, uintptr_t start,
                                        uintptr_t end)
{
    const struct hold_entry *entry, *found = NULL;

    for (uint32_t index = 0; (entry = holds_next(self->sharing, &index, 0, 0)) != NULL; index++) {
        uint64_t word = atomic_load(&entry->word);
        uintptr_t from = atomic_load(&entry->start), to = atomic_load(&entry->end);
        if (!word || holds_peer(word) == self->number || !atomic_load(&entry->settled) ||
            start < from || end > to)
            continue;
        if (from || to != UINTPTR_MAX)
            return entry;
        if (peer_owns(self->control, holds_peer(word), start, end - start))
            found = entry;
    }
    return found;
}

/* An export of what we have from somebody else has a hold of its own of that.  Ours may be another
 * thread's, which releases it, or there may be several of different exports: the importer follows
 * the one that is written down, so that one must last as long as the export. */
static int hold_origin(struct aiopip_peer *self, struct export_record *record)
{
    struct table *table = &self->sharing->holds;
    int64_t hold = 0;

    table_lock(table);
    const struct hold_entry *entry = hold_of(self, record->start, record->end);
    if (entry) {
        uint64_t word = atomic_load(&entry->word);
        hold = holds_put(self->sharing, word, record->start, record->end);
        if (hold >= 0) {
            record->origin = word;
            record->origin_hold = (uint32_t)hold;
            atomic_fetch_add(&shared_peer(self->control, holds_peer(word))->transfers, 1);
        }
    }
    table_unlock(table);
    return hold < 0 ? (int)hold : 0;
}

static struct export_record *make_record(const char *name, size_t name_bytes,
                                         const struct aiopip_array *array)
{
    struct export_record sizes = {.ndim = array->ndim,
                                  .name_bytes = (uint32_t)name_bytes,
                                  .dtype_bytes = (uint32_t)array->dtype_bytes};
    struct export_record *record = malloc(export_record_bytes(&sizes));

    if (!record)
        return NULL;
    *record = sizes;
    record->address = array->address;
    record->start = array->start;
    record->end = array->end;
    record->flags = array->flags;
    if (array->ndim)
        memcpy(record->dims, array->dims, 2 * array->ndim * sizeof array->dims[0]);
    char *text = (char *)&record->dims[2 * array->ndim];
    memcpy(text, name, name_bytes);
    if (array->dtype_bytes)
        memcpy(text + name_bytes, array->dtype, array->dtype_bytes);
    return record;
}

/* Tell who waits: first the entry, then the bells; and the root, when it looks out for exports,
 * which it says before it looks at the table. */
static void announce(struct aiopip_peer *self)
{
    struct control *control = self->control;

    peer_announce(control, self->peer);
    if (self->number != PEER_ROOT && atomic_load(&control->slots[self->number].interest)) {
        shared_set_bit(control->attention, self->number);
        shared_wake_spawner(control);
    }
    KILL_POINT(EXPORT_ANNOUNCED);
}

static void free_record(struct aiopip_peer *self, struct export_record *record)
{
    if (record->origin)
        peer_drop(self, record->origin_hold);
    free(record);
}

int peer_export(struct aiopip_peer *self, const char *name, size_t name_bytes,
                const struct aiopip_array *array, uint64_t *id)
{
    struct export_record *record = make_record(name, name_bytes, array);
    int result = record ? 0 : -ENOMEM;

    if (record && array->flags & AIOPIP_ARRAY_TYPED && array->start < array->end)
        result = hold_origin(self, record);
    if (result == 0)
        result = exports_add(self->sharing, record, id);
    if (result == 0)
        announce(self);
    else if (record)
        free_record(self, record);
    return result;
}

bool peer_free_export(struct aiopip_peer *self, uint64_t id)
{
    struct export_record *record = exports_free(self->sharing, id);

    if (record)
        free_record(self, record);
    return record != NULL;
}

void peer_drop_origins(struct aiopip_peer *self)
{
    struct sharing *sharing = self->sharing;

    for (uint32_t i = 0; i < atomic_load(&sharing->exports.used); i++) {
        struct export_record *record = atomic_load(&exports_at(sharing, i)->record);
        if (record && record->origin) {
            holds_drop(sharing, record->origin_hold);
            record->origin = 0;
        }
    }
}
