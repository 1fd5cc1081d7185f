/* SPDX-License-Identifier: BSD-2-Clause
 *
 * aiopip/lock.h: a lock that lies in memory which tasks and their root share.
 *
 * Its owner is a process: a task, or the root.  Memory that is all zero is a lock that nobody has.
 * It is robust: when its owner dies, by whatever signal, the next one gets it and is told.  Taking
 * and giving back a lock that nobody waits for are one atomic operation each.
 *
 * All functions return 0 or a positive errno; EPERM in a process that is neither a PiP root nor a
 * PiP task (a child made by fork() is neither).  Any thread may call them, no signal handler.
 */
#ifndef AIOPIP_LOCK_H
#define AIOPIP_LOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOPIP_LOCK_API __attribute__((visibility("default")))

/* A cache line; `state` is all that is used of it. */
typedef struct aiopip_lock {
    uint64_t state;
    uint64_t reserved[7];
} aiopip_lock_t;

/* Take the lock; blocks, timeout_ms at the most (-1: for ever).  EOWNERDEAD: it is the caller's, and
 * what it guards may be halfway, until aiopip_lock_recover() somebody else's change of it;
 * ETIMEDOUT; EINTR. */
AIOPIP_LOCK_API int aiopip_lock_acquire(aiopip_lock_t *lock, int timeout_ms);

/* The same without blocking: EBUSY when somebody has it. */
AIOPIP_LOCK_API int aiopip_lock_try(aiopip_lock_t *lock);

/* What the lock guards is right again: to be called by its owner, after EOWNERDEAD. */
AIOPIP_LOCK_API int aiopip_lock_recover(aiopip_lock_t *lock);

/* Give the lock back.  EPERM: this process does not have it. */
AIOPIP_LOCK_API int aiopip_lock_release(aiopip_lock_t *lock);

#ifdef __cplusplus
}
#endif
#endif
