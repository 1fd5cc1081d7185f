/* SPDX-License-Identifier: BSD-2-Clause
 *
 * holds.h: what a peer holds of others' memory: its own side of the table, and who looks into it.
 *
 * A hold counts from the store of its word to the store of 0, or until its holder's memory is closed
 * (shared.h: peer.open).  The holder writes the word, then looks whether what it holds is open and
 * unchanged; who gives memory back first closes it, or withdraws the export, then reads the words.
 * All of these are sequentially consistent: one of the two sees the other.
 */
#ifndef HOLDS_H
#define HOLDS_H

#include "table.h"

#define HOLDS_OF_PEER (0xffffUL << SHARED_PEER_SHIFT)
#define HOLDS_OF_EXPORT UINT64_MAX

static inline struct hold_entry *holds_at(const struct sharing *sharing, uint32_t index)
{
    return table_at(&sharing->holds, index, sizeof(struct hold_entry));
}

static inline uint64_t holds_word(uint32_t peer, uint64_t id)
{
    return (uint64_t)(peer + 1) << SHARED_PEER_SHIFT | id;
}

/* A hold of a peer's memory, of no export in particular. */
static inline uint64_t holds_word_of_all(uint32_t peer)
{
    return holds_word(peer, (uint64_t)SHARED_INDEX_ALL << SHARED_VERSION_BITS);
}

static inline uint32_t holds_peer(uint64_t word)
{
    return (uint32_t)(word >> SHARED_PEER_SHIFT) - 1;
}

static inline bool holds_is_of_export(uint64_t word)
{
    return (word >> SHARED_VERSION_BITS & SHARED_INDEX_ALL) != SHARED_INDEX_ALL;
}

/* Take an entry for a hold: its number, -ENOMEM, -ENOSPC.  Holder only. */
int64_t holds_add(struct sharing *sharing, uint64_t word, uintptr_t start, uintptr_t end);

/* The same, under the table's lock. */
int64_t holds_put(struct sharing *sharing, uint64_t word, uintptr_t start, uintptr_t end);

/* It is what it says until it is dropped: other threads of its holder may build on it.  Holder only. */
void holds_settle(struct sharing *sharing, uint32_t index);

/* Give a hold up.  Holder only. */
void holds_drop(struct sharing *sharing, uint32_t index);

/* The first hold at or behind *index whose word is `word` in the bits of the mask; NULL when there
 * is none.  Anybody while the holder's memory is there. */
const struct hold_entry *holds_next(const struct sharing *sharing, uint32_t *index, uint64_t mask,
                                    uint64_t word);

#endif
