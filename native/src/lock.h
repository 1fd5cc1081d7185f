/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lock.h: <aiopip/lock.h> for one peer, and in steps, so that many locks can be waited for at once.
 */
#ifndef LOCK_H
#define LOCK_H

#include "aiopip/lock.h"
#include "peer.h"

#define LOCK_WORDS 2 /* that are waited for when a lock is somebody else's */

/* Take the lock: 0, -EOWNERDEAD (it is ours), or -EBUSY.  words, unless NULL: what changes when it is
 * worth another try. */
int lock_try(struct aiopip_peer *self, aiopip_lock_t *lock, struct aiopip_word *words);

/* Give it back, and say that what it guards is right: 0, or -EPERM when it is not ours. */
int lock_release(struct aiopip_peer *self, aiopip_lock_t *lock);
int lock_recover(struct aiopip_peer *self, aiopip_lock_t *lock);

/* Whose it is: the number of a peer, -1: nobody's, -EOWNERDEAD: of one that has ended. */
int64_t lock_owner(const struct aiopip_peer *self, aiopip_lock_t *lock);

#endif
