/* SPDX-License-Identifier: BSD-2-Clause
 *
 * table.c: see table.h.
 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

void table_lock(struct table *table)
{
    uint32_t free = 0;

    if (atomic_compare_exchange_strong(&table->lock, &free, 1))
        return;
    while (atomic_exchange(&table->lock, 2) != 0)
        shared_futex_wait(&table->lock, 2, NULL);
}

void table_unlock(struct table *table)
{
    if (atomic_exchange(&table->lock, 0) == 2)
        shared_futex_wake(&table->lock, 1);
}

/* Chunk n begins at entry FIRST * (2^n - 1). */
static uint32_t chunk_of(uint32_t index, uint32_t *offset)
{
    uint32_t chunk = 31 - (uint32_t)__builtin_clz(index / SHARED_CHUNK_FIRST + 1);

    *offset = index - SHARED_CHUNK_FIRST * ((1U << chunk) - 1);
    return chunk;
}

void *table_at(const struct table *table, uint32_t index, size_t entry_bytes)
{
    uint32_t offset, chunk = chunk_of(index, &offset);

    return atomic_load_explicit(&table->chunks[chunk], memory_order_acquire) + offset * entry_bytes;
}

int64_t table_take(struct table *table, size_t entry_bytes)
{
    if (table->free) {
        uint32_t index = table->free - 1;
        struct table_entry *entry = table_at(table, index, entry_bytes);
        table->free = entry->next;
        entry->next = 0;
        return index;
    }
    uint32_t index = atomic_load_explicit(&table->used, memory_order_relaxed);
    uint32_t offset, chunk = chunk_of(index, &offset);
    if (chunk >= SHARED_CHUNKS)
        return -ENOSPC;
    if (!atomic_load_explicit(&table->chunks[chunk], memory_order_relaxed)) {
        char *made = calloc((size_t)SHARED_CHUNK_FIRST << chunk, entry_bytes);
        if (!made)
            return -ENOMEM;
        atomic_store_explicit(&table->chunks[chunk], made, memory_order_release);
    }
    atomic_store(&table->used, index + 1);
    return index;
}

void table_give(struct table *table, uint32_t index, size_t entry_bytes)
{
    struct table_entry *entry = table_at(table, index, entry_bytes);

    entry->next = table->free;
    table->free = index + 1;
}

void table_free(struct table *table)
{
    for (int i = 0; i < SHARED_CHUNKS; i++)
        free(atomic_load(&table->chunks[i]));
    *table = (struct table){0};
}
