/* SPDX-License-Identifier: BSD-2-Clause
 *
 * holds.c: see holds.h.
 */
#include "holds.h"

#include "kill_points.h"

int64_t holds_put(struct sharing *sharing, uint64_t word, uintptr_t start, uintptr_t end)
{
    int64_t index = table_take(&sharing->holds, sizeof(struct hold_entry));

    if (index >= 0) {
        struct hold_entry *entry = holds_at(sharing, (uint32_t)index);
        atomic_store(&entry->settled, 0);
        entry->stays = 0;
        atomic_store(&entry->start, start);
        atomic_store(&entry->end, end);
        KILL_POINT(HOLD_TAKEN);
        atomic_store(&entry->word, word);
        KILL_POINT(HOLD_WRITTEN);
    }
    return index;
}

int64_t holds_add(struct sharing *sharing, uint64_t word, uintptr_t start, uintptr_t end)
{
    table_lock(&sharing->holds);
    int64_t index = holds_put(sharing, word, start, end);
    table_unlock(&sharing->holds);
    return index;
}

void holds_settle(struct sharing *sharing, uint32_t index)
{
    atomic_store(&holds_at(sharing, index)->settled, 1);
}

void holds_drop(struct sharing *sharing, uint32_t index)
{
    table_lock(&sharing->holds);
    atomic_store(&holds_at(sharing, index)->word, 0);
    KILL_POINT(HOLD_CLEARED);
    table_give(&sharing->holds, index, sizeof(struct hold_entry));
    table_unlock(&sharing->holds);
}

const struct hold_entry *holds_next(const struct sharing *sharing, uint32_t *index, uint64_t mask,
                                    uint64_t word)
{
    uint32_t used = atomic_load(&sharing->holds.used);

    for (; *index < used; ++*index) {
        const struct hold_entry *entry = holds_at(sharing, *index);
        if ((atomic_load(&entry->word) & mask) == word)
            return entry;
    }
    return NULL;
}
