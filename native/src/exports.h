/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exports.h: names and arrays that a peer gives to the others: its own side of the table.
 *
 * An export is PUBLISHED, then WITHDRAWN (its name is free again), then FREE, once nobody holds it.
 * Its id is its index and version; no other export of the peer ever has the same.
 */
#ifndef EXPORTS_H
#define EXPORTS_H

#include <string.h>

#include "table.h"

#define EXPORT_NAME_MAX 255

static inline struct export_entry *exports_at(const struct sharing *sharing, uint32_t index)
{
    return table_at(&sharing->exports, index, sizeof(struct export_entry));
}

static inline enum export_state exports_state(uint64_t word)
{
    return (enum export_state)(word & 0xf);
}

/* The id that goes into a hold's word. */
static inline uint64_t exports_id(uint32_t index, uint64_t word)
{
    return (uint64_t)index << SHARED_VERSION_BITS | (word >> 4 & SHARED_VERSION_MASK);
}

static inline uint32_t exports_index(uint64_t id)
{
    return (uint32_t)(id >> SHARED_VERSION_BITS & SHARED_INDEX_ALL);
}

/* A record's name and type, not ended by NUL. */
static inline const char *export_name(const struct export_record *record)
{
    return (const char *)&record->dims[2 * record->ndim];
}

static inline const char *export_dtype(const struct export_record *record)
{
    return export_name(record) + record->name_bytes;
}

size_t export_record_bytes(const struct export_record *record);

/* Have the versions begin at another place in each task of a slot: a hold of what a task had from
 * somebody else outlives all of that task's memory, and must not be taken for one of the next. */
void exports_begin(struct sharing *sharing, uint64_t generation);

/* Whether something can have that name: C could not say one with a NUL in it. */
static inline bool exports_is_name(const char *name, size_t bytes)
{
    return bytes <= EXPORT_NAME_MAX && !memchr(name, 0, bytes);
}

uint32_t exports_hash(const char *name, size_t bytes);

/* Publish a record, which the table owns from then on (free(3)).  0, -EBUSY: the name is taken;
 * -ENOMEM, -ENOSPC.  Owner only. */
int exports_add(struct sharing *sharing, struct export_record *record, uint64_t *id);

/* Free the name.  0, -ENOENT when that has happened before.  Owner only. */
int exports_withdraw(struct sharing *sharing, uint64_t id);

/* The next withdrawn export at or behind *index: its id, 0 when there is none.  Owner only. */
bool exports_next_withdrawn(const struct sharing *sharing, uint32_t *index, uint64_t *id);

/* Free the entry of a withdrawn export that nobody holds: its record, which is the caller's; NULL when
 * another thread was quicker.  Owner only. */
struct export_record *exports_free(struct sharing *sharing, uint64_t id);

/* The first published export of that hash at or behind *index, which becomes its number; its word, 0
 * when there is none.  Anybody who holds the owner's memory; the record may be read by who holds the
 * export and has found the word unchanged since. */
uint64_t exports_next(const struct sharing *sharing, uint32_t hash, uint32_t *index);

/* Free all records; nobody may look any more. */
void exports_free_all(struct sharing *sharing);

#endif
