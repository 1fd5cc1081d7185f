/* SPDX-License-Identifier: BSD-2-Clause
 *
 * puppet.h: a process of the space that does what a test says, call by call: a task
 * (task_puppet.c), or the root itself.  Orders lie in the root's memory, which the task has too.
 */
#ifndef PUPPET_H
#define PUPPET_H

#include <stdatomic.h>
#include <stdbool.h>

#include "aiopip.h"
#include "aiopip/lock.h"
#include "kill_points.h"

#define PUPPET_IDS 64
#define PUPPET_DTYPE 32

enum puppet_call {
    PUPPET_MAKE,          /* bytes of memory: address */
    PUPPET_EXPORT,        /* array as name: id */
    PUPPET_WITHDRAW,      /* id */
    PUPPET_RELEASED,      /* result: how many ids */
    PUPPET_AWAIT_RELEASE, /* the same; a task waits for the first by its bell */
    PUPPET_IMPORT,        /* name of pipid and generation: hold */
    PUPPET_AWAIT_IMPORT,  /* the same; a task waits by its bell */
    PUPPET_HOLD,          /* [address, address + bytes): hold */
    PUPPET_NARROW,        /* hold to [address, address + bytes): hold */
    PUPPET_CHECK,         /* of hold: [address, address + bytes) */
    PUPPET_RELEASE,       /* hold */
    PUPPET_PIP_EXPORT,    /* address as name */
    PUPPET_PIP_IMPORT,    /* name of pipid: address */
    PUPPET_PIP_TRY,       /* the same, without waiting */
    PUPPET_ACQUIRE,       /* lock, within timeout_ms */
    PUPPET_TRY,
    PUPPET_GIVE_BACK,
    PUPPET_RECOVER,
    PUPPET_COUNT_UP, /* *address, bytes times, each time under lock */
    PUPPET_EXIT,     /* with result as its status */
};

enum puppet_turn {
    PUPPET_IDLE,
    PUPPET_ORDERED,
    PUPPET_DONE,
};

struct order {
    _Atomic uint32_t turn; /* futex */
    enum puppet_call call;
    int result;
    int32_t pipid;
    uint64_t generation;
    char name[256];
    size_t name_bytes;
    struct aiopip_array array;
    int64_t dims[2 * AIOPIP_MAX_NDIM];
    char dtype[PUPPET_DTYPE];
    uint64_t id, ids[PUPPET_IDS];
    aiopip_hold *hold;
    uintptr_t address;
    size_t bytes;
    aiopip_lock_t *lock;
    int timeout_ms;
    _Atomic uint32_t reached[KILL_POINT_COUNT]; /* how often */
    _Atomic uint32_t stop_at, stop_nth;         /* a task stops there; nth 0: nowhere */
    _Atomic uint32_t pauses;                    /* until it is `resumed`; else it is killed */
    _Atomic uint32_t paused, resumed;           /* futexes */
};

/* Do what an order says, but EXIT; result. */
void puppet_obey(aiopip_peer *peer, struct order *order);

#endif
