/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lock.c: see lock.h and <aiopip/lock.h>.
 *
 * The state is one word of 64 bits, and every change of it one compare and swap, so that a process
 * killed at any instruction either has the lock or has not:
 *
 *     generation of the owner (32) | WAITERS | INCONSISTENT | 0 | number of the owner + 1 (16)
 *
 * The lower half is the futex.  Who waits sets WAITERS, then sleeps on two words together: this one,
 * and the count of ends of the owner's slot.
 *
 *     owner                            waiter
 *     takes its name from the state    sees an owner that runs (has read its count of ends before)
 *     (killed here)                    sleeps: not on the state, which has changed; or, was it
 *     wakes all who sleep on it          quicker, until the owner's end changes the count
 *
 * All are woken, since one alone may be killed before it takes the lock.  Who finds an owner that has
 * ended takes its place; of two the compare and swap chooses one.
 */
#include "lock.h"

#include <errno.h>

#include "kill_points.h"

#define OWNER_MASK 0xffffUL
#define INCONSISTENT (1UL << 30)
#define WAITERS (1UL << 31)
#define GENERATION_SHIFT 32

static _Atomic uint64_t *state_of(aiopip_lock_t *lock)
{
    return (_Atomic uint64_t *)&lock->state;
}

static uint64_t name_of(const struct aiopip_peer *self)
{
    return atomic_load(&self->peer->generation) << GENERATION_SHIFT | (self->number + 1);
}

static bool is_ours(const struct aiopip_peer *self, uint64_t state)
{
    return (state & ~(INCONSISTENT | WAITERS)) == name_of(self);
}

/* Whether the owner has ended; of a number that nobody can have, too.  One that was cloned a moment
 * ago may still be QUEUED. */
static bool has_ended(const struct aiopip_peer *self, uint64_t state)
{
    uint32_t number = (uint32_t)(state & OWNER_MASK) - 1;

    if (number == PEER_ROOT)
        return false;
    if (number >= self->control->max_tasks)
        return true;
    const struct slot *slot = &self->control->slots[number];
    uint32_t now = atomic_load(&slot->state);
    return (uint32_t)atomic_load(&slot->peer.generation) != state >> GENERATION_SHIFT ||
           (now != SLOT_RUNNING && now != SLOT_QUEUED);
}

/* The owner's count of ends, as it is before the owner is seen to run. */
static struct aiopip_word end_of(const struct aiopip_peer *self, uint64_t state)
{
    uint32_t number = (uint32_t)(state & OWNER_MASK) - 1;
    bool known = number == PEER_ROOT || number < self->control->max_tasks;
    _Atomic uint32_t *ends = &shared_peer(self->control, known ? number : PEER_ROOT)->ends;

    return (struct aiopip_word){(uint32_t *)ends, atomic_load(ends)};
}

int lock_try(struct aiopip_peer *self, aiopip_lock_t *lock, struct aiopip_word *words)
{
    _Atomic uint64_t *state = state_of(lock);
    uint64_t old = atomic_load(state);

    for (;;) {
        if ((old & OWNER_MASK) == 0) {
            if (!atomic_compare_exchange_strong(state, &old, name_of(self) | (old & INCONSISTENT)))
                continue;
            KILL_POINT(LOCK_TAKEN);
            return old & INCONSISTENT ? -EOWNERDEAD : 0;
        }
        struct aiopip_word end = end_of(self, old);
        if (has_ended(self, old)) {
            if (!atomic_compare_exchange_strong(state, &old,
                                                name_of(self) | INCONSISTENT | (old & WAITERS)))
                continue;
            KILL_POINT(LOCK_TAKEN);
            return -EOWNERDEAD;
        }
        if (!words)
            return -EBUSY;
        if (!(old & WAITERS) && !atomic_compare_exchange_strong(state, &old, old | WAITERS))
            continue;
        words[0] = (struct aiopip_word){(uint32_t *)state, (uint32_t)(old | WAITERS)};
        words[1] = end;
        return -EBUSY;
    }
}

int lock_release(struct aiopip_peer *self, aiopip_lock_t *lock)
{
    _Atomic uint64_t *state = state_of(lock);
    uint64_t old = atomic_load(state);

    do
        if (!is_ours(self, old))
            return -EPERM;
    while (!atomic_compare_exchange_weak(state, &old, old & INCONSISTENT));
    KILL_POINT(LOCK_RELEASED);
    if (old & WAITERS)
        shared_futex_wake((_Atomic uint32_t *)state, INT32_MAX);
    return 0;
}

int lock_recover(struct aiopip_peer *self, aiopip_lock_t *lock)
{
    _Atomic uint64_t *state = state_of(lock);
    uint64_t old = atomic_load(state);

    do
        if (!is_ours(self, old))
            return -EPERM;
    while (!atomic_compare_exchange_weak(state, &old, old & ~INCONSISTENT));
    return 0;
}

int64_t lock_owner(const struct aiopip_peer *self, aiopip_lock_t *lock)
{
    uint64_t now = atomic_load(state_of(lock));

    if ((now & OWNER_MASK) == 0)
        return -1;
    return has_ended(self, now) ? -EOWNERDEAD : (int64_t)(now & OWNER_MASK) - 1;
}
