/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exports.c: see exports.h.  Entries are chained at the head of a bucket by one compare and swap:
 * whoever reads sees an entry complete or not at all, and an owner killed at any instruction leaves
 * the chain as it was or with one entry more.
 */
#include "exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a. */
static uint32_t hash_of(const char *name, size_t bytes)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619U;
    return hash;
}

static const struct export *find_until(const struct export *from, const struct export *end,
                                       const char *name, size_t bytes, uint32_t hash)
{
    for (; from != end; from = from->next)
        if (from->hash == hash && from->name_bytes == bytes && memcmp(from->name, name, bytes) == 0)
            return from;
    return NULL;
}

int exports_add(struct export_table *table, const char *name, size_t bytes, void *address)
{
    uint32_t hash = hash_of(name, bytes);
    _Atomic(struct export *) *bucket = &table->buckets[hash % SHARED_BUCKETS];
    struct export *head = atomic_load_explicit(bucket, memory_order_acquire), *seen = NULL;
    struct export *entry = malloc(sizeof *entry + bytes);

    if (!entry)
        return -ENOMEM;
    entry->address = address;
    entry->hash = hash;
    entry->name_bytes = (uint32_t)bytes;
    memcpy(entry->name, name, bytes);
    do {
        /* Another thread may have been quicker: what it put in front has to be looked at too. */
        if (find_until(head, seen, name, bytes, hash)) {
            free(entry);
            return -EBUSY;
        }
        entry->next = seen = head;
    } while (!atomic_compare_exchange_weak(bucket, &head, entry));
    atomic_fetch_add(&table->count, 1);
    return 0;
}

int exports_find(const struct export_table *table, const char *name, size_t bytes, void **address)
{
    uint32_t hash = hash_of(name, bytes);
    const struct export *found = find_until(
        atomic_load_explicit(&table->buckets[hash % SHARED_BUCKETS], memory_order_acquire), NULL,
        name, bytes, hash);

    if (found)
        *address = found->address;
    return found != NULL;
}

bool exports_hold(_Atomic uint64_t *hold, uint64_t generation)
{
    uint64_t old = atomic_load(hold), new;

    do {
        uint64_t count = old & SHARED_HOLD_COUNT, theirs = old >> SHARED_HOLD_SHIFT;
        if (count && theirs > generation)
            return false; /* another thread holds a later task of that slot: ours has ended */
        if (theirs == generation && count == SHARED_HOLD_COUNT)
            return true;
        new = theirs == generation ? old + 1 : generation << SHARED_HOLD_SHIFT | 1;
    } while (!atomic_compare_exchange_weak(hold, &old, new));
    return true;
}

void exports_drop(_Atomic uint64_t *hold, uint64_t generation)
{
    uint64_t old = atomic_load(hold);

    do {
        uint64_t count = old & SHARED_HOLD_COUNT;
        if (old >> SHARED_HOLD_SHIFT != generation || !count || count == SHARED_HOLD_COUNT)
            return;
    } while (!atomic_compare_exchange_weak(hold, &old, old - 1));
}
