/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reaper.h: the reaper's own state, which no other thread sees.
 */
#ifndef REAPER_H
#define REAPER_H

#include "core.h"

#define NO_TASK (-1)
#define ORPHANS_MAX 64
#define REAPER_CALL_MARK (UINT64_MAX - 1) /* in its epoll: a socket that a client heeds */

/* Ended tasks, linked by task->next. */
struct list {
    int32_t first;
};

/* A process on a dead task's memory.  It was an orphan when it was first seen, so what ended later
 * was not its parent. */
struct orphan {
    pid_t pid;
    uint64_t first_seen_ns;
};

/* The reaper's own state. */
struct reaper {
    struct core *core;
    struct list suspects; /* a child by vfork may run on their memory */
    struct list ready;    /* to be unmapped, unless an import stands against it */
    struct list late;     /* ends that are left to clients until late_due_ns */
    uint64_t late_due_ns;
    uint32_t watched;                   /* tasks whose end it has to learn of still */
    uint32_t unwatched;                 /* of these, those that are asked one by one */
    struct orphan orphans[ORPHANS_MAX]; /* those of the last look */
    int orphan_count;
    int look_wait_ms; /* between looks for orphans, while some stand against a suspect */
    uint64_t next_look_ns;
    bool stopping;
};

static inline void list_push(struct core *core, struct list *list, int32_t pipid)
{
    core->tasks[pipid].next = list->first;
    list->first = pipid;
}

static inline int32_t list_pop(struct core *core, struct list *list)
{
    int32_t pipid = list->first;

    if (pipid != NO_TASK)
        list->first = core->tasks[pipid].next;
    return pipid;
}

/* waiting.c: see whether a task has ended, and fill in how.  False when it has not, or when another
 * process holds its status back for now.  Under the lock. */
bool wait_for(struct core *core, int32_t pipid);

/* The same from any thread; false, too, when the status is not to be had by a plain wait. */
bool wait_for_plain(struct core *core, int32_t pipid);

/* reclaim.c: give back what one ended task left, if it is time. */
void reclaim_one(struct reaper *reaper);

#endif
