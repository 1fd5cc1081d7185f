/* SPDX-License-Identifier: BSD-2-Clause
 *
 * table.h: entries that one process of the space writes and all read without a lock.
 *
 * They never move and are never unmapped while their owner's memory is there.  The lock orders the
 * owner's own threads, and is never waited for by anybody else: an owner that is killed with it taken
 * leaves entries that are complete, or not there.
 */
#ifndef TABLE_H
#define TABLE_H

#include "shared.h"

void table_lock(struct table *table);
void table_unlock(struct table *table);

/* An entry by its number, below `used`.  Anybody. */
void *table_at(const struct table *table, uint32_t index, size_t entry_bytes);

/* Take a free entry, all zero but for its word: its number, -ENOMEM, or -ENOSPC when a million are
 * taken.  Under the lock. */
int64_t table_take(struct table *table, size_t entry_bytes);

/* Give an entry back whose word says that it is free.  Under the lock. */
void table_give(struct table *table, uint32_t index, size_t entry_bytes);

/* Free the chunks; nobody may look any more. */
void table_free(struct table *table);

#endif
