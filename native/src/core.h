/* SPDX-License-Identifier: BSD-2-Clause
 *
 * core.h: the root's side: one core a process, its clients, its record of each slot.
 *
 * Four kinds of threads meet here: the clients' (loops, finalisers), the spawner, the reaper, and the
 * watcher of stops.
 * One lock guards everything in this file that says nothing else; it is held for a few loads and
 * stores, never over a system call that may block.
 *
 * The life of a slot, and who moves it on:
 *
 *   FREE --spawn (client)--> QUEUED --clone (spawner)--> RUNNING --reap (reaper)--> ENDED
 *                               \----failed, cancelled (spawner)-------------------/   |
 *   FREE <--- the end was drained (client), and the memory is gone (reaper) -----------/
 */
#ifndef CORE_H
#define CORE_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "descriptor.h"
#include "image.h"
#include "peer.h"
#include "probe.h"
#include "program.h"
#include "seed.h"
#include "shared.h"
#include "stack.h"

/* STARTED or FAILED, EXITED, EXPORTED, STOPPED or CONTINUED: each at most once */
#define CORE_EVENTS_A_SLOT 4
#define CORE_EVENTS_A_CLIENT 3 /* RECLAIMED, RELEASED, CALLED: likewise */

#define CORE_FILE_RESERVE 64 /* descriptors of each table that are not tasks' */
#define CORE_LOADING 64      /* tasks whose report may be outstanding, slow ones too */
#define CORE_WARM 64 /* windows that may keep their program loaded; with those of running tasks */
#define CORE_PROGRAMS 64 /* that may be known to have ended */

/* Threads by the descriptor table that they have. */
enum core_side {
    SIDE_PROCESS,
    SIDE_SPAWNER,
    SIDE_REAPER,
    CORE_SIDES
};

/* ---- Clients ---------------------------------------------------------------------------------- */

struct queued_event {
    uint32_t kind;
    int32_t pipid;
    uint64_t generation;
};

struct aiopip_client {
    struct core *core;
    struct aiopip_client *next;
    int event_fds[CORE_SIDES]; /* the one eventfd in each table; -1: not fetched yet */
    int epolls[CORE_SIDES];    /* likewise: of the eventfd, and of its tasks' ends; see ending.c */
    int heeded[CORE_SIDES]; /* a socket to which others come, in the reaper's table, too; or -1 */
    bool needs_kick;        /* events came into an empty ring */
    bool wants_reclaimed;   /* a spawn found memory in the way; cleared by RECLAIMED */
    bool release_queued;    /* RELEASED is in the ring */
    bool call_queued;       /* CALLED is */
    bool listens;           /* wants to hear of stops, continues and exports */
    uint32_t alive;         /* tasks queued or running */
    uint32_t head, tail;    /* events [head, tail) wait; never more than the ring holds */
    uint32_t ring_mask;
    struct queued_event ring[];
};

/* ---- Requests and tasks ----------------------------------------------------------------------- */

/* The attributes of the thread that asked, which the spawner does not have. */
struct thread_attributes {
    uint64_t signal_mask;
    struct kernel_sched_attr scheduler;
    uint64_t affinity[128];
    uint32_t affinity_bytes;
};

/* A spawn that waits for its turn: the caller's request with copies of all that it points to. */
struct request {
    struct request *next;
    struct aiopip_spawn_request spawn;
    struct thread_attributes attributes;
    uint64_t generation;
    int32_t pipid;
    _Alignas(16) char store[];
};

enum memory_state {
    MEMORY_NONE,    /* nothing of the slot is mapped */
    MEMORY_MAPPED,  /* it is, or may be */
    MEMORY_PENDING, /* ended; the reaper will see whether anything stands against unmapping it */
    MEMORY_HELD,    /* ended; an import, or a missing acknowledgement, stands against some of it */
    MEMORY_UNMAPPING, /* being unmapped, without the lock */
    MEMORY_STUCK      /* could not be unmapped: the slot is lost */
};

struct span {
    uintptr_t start, end;
};

/* The root's record of a slot. */
struct task {
    struct aiopip_client *client;
    pid_t pid;
    bool announced;     /* STARTED is in the ring */
    bool cancelled;     /* by aiopip_cancel() */
    bool drained;       /* the client took the last event of it */
    bool acknowledged;  /* or need not */
    bool export_queued; /* EXPORTED is in the ring */
    bool stop_queued;   /* STOPPED is in the ring */
    int stop_status;    /* the wait status of its latest stop or continue, 0 when that was told */
    bool status_lost;
    bool left;   /* by execve */
    bool failed; /* it ended with FAILED, not EXITED */
    enum memory_state memory;
    bool collected; /* the reaper knows of its end */
    bool watched_by_client;
    bool aside;   /* the reaper has put it aside until something that stands against it goes */
    bool trimmed; /* of its memory nothing is mapped but `remains` */
    struct span *remains; /* malloc; what is held, in whole pages, by address */
    size_t remains_count;
    int32_t next; /* in one of the reaper's lists */
    bool asked;   /* by a timer, not by epoll, whether it has ended */
    int wait_status;
    uint64_t program; /* a hash of what it runs */
    uint64_t started_ns, ended_ns;
    uint64_t stolen_ns; /* when its status was first found taken; 0: not so */
    struct rusage usage;
    int error;
    struct program_error failure;
};

/* Which windows keep their program loaded: warm.h. */
enum warm_use {
    WARM_OFF,
    WARM_TRYING, /* each, from the first start on */
    WARM_ON, /* of programs that are started when one of theirs has ended: again, not only at once */
};

/* ---- The core --------------------------------------------------------------------------------- */

struct core {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a task ended, a thread is ready */
    struct control *control;
    struct aiopip_peer self; /* the root as a peer */
    uint32_t references;     /* one while it is open, one a hold or aiopip_peer_keep() */
    bool stopping;
    bool stopped; /* there are no threads any more */
    pid_t pid;
    char *preload;
    char *launcher; /* or NULL */
    struct aiopip_client *clients;
    struct aiopip_client *closing; /* closed; threads have descriptors of theirs still */
    struct task *tasks;
    uint64_t next_generation;
    struct request *queue_head, **queue_tail;
    uint32_t queued, alive;
    bool clients_changed; /* for the spawner to look at: cleared by it */
    bool requests_cancelled;
    uint64_t spawned, ended, failed, unloaded, orphan_waits, resumed;

    /* Set at opening, then read only. */
    uint64_t auxv[STACK_AUXV_MAX][2];
    struct rlimit file_limit; /* the user's */
    rlim_t raised_file_limit; /* what the core made of it; 0: nothing */
    bool private_descriptors;
    bool has_clone3, has_kcmp;

    _Atomic bool probing; /* who opens it; its slots are waited for, one after the other */

    /* The spawner's. */
    pthread_t spawner;
    int preload_fd; /* -1, unless its path must be avoided */
    int libc_pages; /* -1: tasks write into pages of their own */
    struct libc_text libc;
    struct thread_attributes spawner_attributes;
    int self_pidfd;
    int reaper_socket; /* spawner's end */
    struct image *images;
    const struct seed *seed; /* or NULL; set under the lock, before there are other clients */
    struct {                 /* tasks between clone and the preload's report */
        int32_t pipid;
        uint64_t since_ns;
    } loading[CORE_LOADING];
    uint32_t loading_count;
    int start_error; /* of the threads */
    uint32_t threads_ready;

    /* The watcher's: stops.c. */
    struct {
        pthread_t thread;
        bool started;
        uint32_t listeners;    /* clients that listen */
        _Atomic uint32_t word; /* futex: there may be something to do */
        _Atomic bool asking;   /* it is in waitid, or on the way there */
    } stops;

    /* The cloner's: cloner.c. */
    struct {
        pthread_t thread;
        bool started;
        struct thread_attributes attributes; /* set before it starts */
        _Atomic uint32_t word; /* futex; client, spawner and cloner: who has what to do */
        void (*function)(void *);
        void *argument;
    } cloner;

    /* Mappings, counted by the spawner. */
    uint64_t mappings, mappings_limit, mappings_made_then, mappings_promised;
    uint64_t mappings_counted_ns, mappings_cost_ns;
    int maps; /* /proc/self/maps, or -1 */
    bool tracked;

    /* warm.c: windows that keep their program loaded, or will.  Set by warm.c, under the lock. */
    struct warm_entry {
        struct warm *state; /* NULL: a free entry */
        uint64_t name_hash;
        int32_t pipid;
    } warm[CORE_WARM];
    struct warm_program {  /* one of which a task has ended */
        uint64_t program;  /* a hash; the entry's number is the rest of it */
        uint32_t failures; /* times in a row that its window could not be kept */
        uint32_t skip;     /* starts that are not to be written down for that */
    } programs[CORE_PROGRAMS];
    enum warm_use warm_use; /* core.c's opening; under the lock, before there are other clients */
    _Atomic uint64_t last_spawn_ns; /* the spawner's */
    uint64_t warm_kept_ns;          /* the reaper's: when a window was kept last; 0: none is */
    _Atomic bool warm_is_idle;      /* others set, the spawner clears: drop all */

    /* The reaper's. */
    pthread_t reaper;
    int control_socket; /* reaper's end */
    int epoll;
    int reaper_self_pidfd;
    int *pidfds;                     /* of each slot; -1: none */
    int reaper_maps, reaper_pagemap; /* files of /proc/self, -1: not opened yet */
};

/* What the spawner sends to the reaper, one a datagram; a pidfd comes along with WATCH. */
enum reaper_order {
    REAPER_WATCH,
    REAPER_LOOK,    /* into control->looks: holds were given up, ends acknowledged */
    REAPER_CLIENTS, /* clients came or went: fetch or close their descriptors */
    REAPER_STOP,
};

struct reaper_message {
    uint32_t order;
    int32_t pipid;
};

uint64_t core_now_ns(void);
void core_lock(struct core *core);
/* Unlock; before, kick the clients that were posted to, by the descriptors of the caller's side. */
void core_unlock(struct core *core, enum core_side side);

static inline struct slot *core_slot(struct core *core, int32_t pipid)
{
    return &core->control->slots[pipid];
}

/* The slot's task if the generation is its, else NULL.  Under the lock. */
struct task *core_task(struct core *core, int32_t pipid, uint64_t generation);

/* Queue an event for a task's client.  Under the lock. */
void core_post(struct core *core, int32_t pipid, enum aiopip_event_kind kind);

/* Queue STARTED for a task, once.  Under the lock. */
void core_announce(struct core *core, int32_t pipid);

/* Queue STARTED for those that have written so themselves.  Under the lock. */
void core_announce_started(struct core *core);

/* Queue EXPORTED for a task, or its latest stop or continue if the client listens.  Under the lock. */
void core_post_export(struct core *core, int32_t pipid);
void core_post_stop(struct core *core, int32_t pipid, int wait_status);

/* The task is over and owns nothing but memory: FREE if that is gone and the end drained.  Under the
 * lock. */
void core_settle(struct core *core, int32_t pipid);

/* Something that stood against unmapping a slot's memory is gone: the reaper looks again, or, when
 * there are no threads any more, it is done here.  Under the lock. */
void core_let_go(struct core *core, int32_t pipid);

/* ending.c: see whether a running task has ended, and if so mark and post that.  By the reaper, or by the
 * task's client, which leaves to the reaper what is not plain.  Under the lock. */
bool ending_look(struct core *core, int32_t pipid, enum core_side side);

/* A client's epoll, in the process's table; or -errno. */
int ending_make_epoll(int event_fd);

/* Tell all others who may wait for a task's end, when it was marked.  Without the lock. */
void ending_tell(struct core *core, int32_t pipid);

/* Watch a task's end from its client's epoll, or no more.  Reaper only. */
bool ending_watch(struct core *core, int32_t pipid, int pidfd);
void ending_unwatch(struct core *core, int32_t pipid, int pidfd);

/* The tasks whose end a client's epoll tells of.  No lock. */
#define ENDINGS_AT_ONCE 16
int ending_take(const struct aiopip_client *client, int32_t pipids[ENDINGS_AT_ONCE]);

/* signals.c: send a signal, as aiopip_kill() does.  The kernel takes a signal for a zombie, too, and
 * says that it was sent.  Who hears 0 from us shall know that the task had not ended by itself: one
 * that was a zombie before the call gets -ESRCH.  What ends between the look and the kill did so at
 * the moment of the signal.  Under the lock. */
int core_kill(struct core *core, int32_t pipid, int signal);

/* Tell clients that holds of the root's exports were given up.  Under the lock. */
void core_post_released(struct core *core);

/* Tell clients that somebody has come to the socket that they heed.  Under the lock. */
void core_post_called(struct core *core);

/* A copy of one of the process's descriptors in the table of the calling thread, spawner or reaper. */
int core_fetch(const struct core *core, int descriptor, int self_pidfd);

/* Fetch the eventfds of new clients into a thread's table, close those of closed ones; the reaper,
 * which is the last to do so, frees these. */
void core_sync_clients(struct core *core, enum core_side side, int self_pidfd);

/* Take a reference, or drop one, which frees the core with the last.  Not under the lock. */
void core_keep(struct core *core);
void core_release(struct core *core);

/* Start a thread that takes no signals.  0 or -errno. */
int core_start_thread(pthread_t *thread, void *(*main)(void *), struct core *core);

/* stops.c: there is one task more to ask for its stops, or something else for the watcher to look at.
 * Any thread. */
void stops_look(struct core *core);

/* End the watcher, when all tasks are reaped.  Spawner only. */
void stops_end(struct core *core);

/* cloner.c: start the thread that has the process's descriptor table, if the spawner has another one
 * and it does not run yet: 0 or -errno.  Client's thread, under the lock. */
int cloner_start(struct core *core);

/* Have it call a function, and wait for that; end it, when all tasks are reaped.  Spawner only. */
void cloner_call(struct core *core, void (*function)(void *), void *argument);
void cloner_end(struct core *core);

/* start.c: start a task, or post why not.  Spawner only; the request is the caller's. */
void start_task(struct core *core, struct request *request);

/* spawner.c, reaper.c: the threads, started by core.c and by the spawner. */
void *spawner_main(void *core);
void *reaper_main(void *core);
int reaper_tell(struct core *core, enum reaper_order order, int32_t pipid, int descriptor);

/* looking.c: wait for a client's socket, and no more.  Reaper only, under the lock. */
void reaper_heed(struct core *core, struct aiopip_client *client);
void reaper_unheed(struct core *core, struct aiopip_client *client);

/* probing.c: run the probe as the core's first task and leave no trace of it.  0, or the errors of
 * aiopip_open.  Blocks. */
int probe_core(struct aiopip_client *client, const struct aiopip_options *options);
int probe_run(struct aiopip_client *client, const char *path, struct probe_report *report);

/* learning.c: find out the seed of the probe's ld.so, which is that of most tasks, and have tasks
 * started with it.  Where it cannot be found out nothing changes.  Blocks. */
void learn_seed(struct aiopip_client *client, const struct aiopip_options *options);

/* Before any task has run: take over what another process has learned, if the probe runs with it.  1: so
 * it does; 0: nothing is known; -ETIMEDOUT: the probe does not end.  Blocks. */
int learn_recall(struct aiopip_client *client, const struct aiopip_options *options);

/* attributes.c */
int attributes_read(struct thread_attributes *attributes);
uint64_t attributes_stack_limit(const struct aiopip_spawn_options *options);
size_t attributes_stack(const struct aiopip_spawn_request *request);
/* mine: of the thread that clones, which the child has already */
void attributes_set(struct core *core, const struct request *request,
                    const struct thread_attributes *mine, struct task_start *child);

/* descriptors.c: have the descriptors of the root that a task gets in this thread's table, where the
 * child finds them: their numbers go into *child.  0, or -errno with *error filled in; what was opened
 * is to be closed in any case, behind the clone. */
struct fetched {
    int first[3];     /* room for those of most tasks */
    int *descriptors; /* first, or malloc */
    size_t count;
    bool all_here; /* this thread has the process's table */
};
int descriptors_fetch(struct core *core, const struct aiopip_spawn_request *request,
                      struct task_start *child, struct fetched *fetched,
                      struct program_error *error);
void descriptors_close(struct fetched *fetched);

/* window.c */
int window_reserve(struct control *control);
void window_shrink(const struct control *control, int32_t first_kept, int32_t last_kept);
void window_release(struct control *control);
int window_map(struct core *core, int32_t pipid, size_t stack_bytes, const struct image *image,
               struct task_block **block, uintptr_t *stack_start, uintptr_t *image_at);
struct task_block *window_block(const struct core *core, int32_t pipid, size_t stack_bytes,
                                uintptr_t *stack_start);
void window_fill(struct core *core, int32_t pipid, size_t stack_bytes, const struct image *image,
                 struct task_block *block);
size_t window_spans(const struct control *control, int32_t pipid,
                    struct span spans[SHARED_OUTSIDE + 1]);
int window_unmap(struct core *core, int32_t pipid, struct span *keep, size_t keep_count);

/* reclaim.c: the client has done with the end of a task: its memory is closed, unless an export is to
 * be kept.  Under the lock. */
void reclaim_acknowledge(struct core *core, int32_t pipid);

/* Give back what a slot's task has left and nobody holds.  Under the lock, which is let go
 * while memory is unmapped, unless the core has no threads any more. */
void reclaim_memory(struct core *core, int32_t pipid, enum core_side side);

/* orphans.c: the processes that are no task, and no child of one that lives, and run on our memory.
 * Their number, of which the first `most` are in orphans, or -errno when it cannot be told. */
int orphans_find(struct core *core, pid_t *orphans, int most);
bool on_our_memory(const struct core *core, pid_t pid);

/* mappings.c */
bool mappings_left(struct core *core, uint64_t needed);
int mappings_check(uintptr_t start, size_t bytes);
bool mappings_none(struct core *core, uintptr_t start, uintptr_t end);

#endif
