/* SPDX-License-Identifier: BSD-2-Clause
 *
 * shared.h: what the root and its tasks share in memory.
 *
 * The control block is one private mapping that the core makes; a child by fork() has a copy of it,
 * so nothing that it does there reaches anybody.  Each task has a window of address space, found
 * from its slot's number by arithmetic, in which everything that it ever maps lies:
 *
 *   start      first                                                                      end
 *   | gap | stack | block | page | ld.so, program, libraries, heap, ...  cursor ->         |
 *
 * A window belongs to its task alone from before the first mapping until all of it is unmapped at
 * the end.  That is the ledger: a task killed between a call of mmap and the next instruction has
 * lost nothing.  Only what a program maps at an address of its own choice, outside, is written down
 * (block->outside), before it is mapped.
 *
 * One writer for each field.  "root" is any thread of the root under the core's lock; "task" is any
 * thread of the task.  A word with two writers is a counter or a flag that both only add to.
 */
#ifndef SHARED_H
#define SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aiopip.h"
#include "arch_x86_64.h"
#include "kernel.h"

#define SHARED_MAGIC 0x31504950414f4941UL
#define SHARED_AUXV_TYPE 0x50495041 /* the auxiliary vector's entry that leads to a task's block */

#define SHARED_BUCKETS 64
#define SHARED_OUTSIDE 256
#define SHARED_EXTENTS 16
#define SHARED_AIO 32
#define SHARED_GAP (64UL << 10)

enum slot_state {
    SLOT_FREE,
    SLOT_QUEUED,  /* taken; no process yet */
    SLOT_RUNNING, /* a process that is not reaped yet */
    SLOT_ENDED,   /* reaped, or never started; memory may be there still */
};

enum task_started {
    TASK_STARTED_NOT,
    TASK_STARTED_DONE,   /* all options applied */
    TASK_STARTED_FAILED, /* slot->failure and slot->error say at what */
};

enum task_loaded {
    TASK_LOADED_NOT,
    TASK_LOADED_TRACKED,   /* libc's mapping calls go through the ledger */
    TASK_LOADED_UNTRACKED, /* they could not be patched: what libc maps is lost at the end */
};

/* A name and its address; written once, published by the bucket that leads to it. */
struct export {
    struct export *next;
    void *address;
    uint32_t hash;
    uint32_t name_bytes;
    char name[];
};

/* One task's, or the root's, exports: chains that only grow at the head.  Writer: task. */
struct export_table {
    _Atomic(struct export *) buckets[SHARED_BUCKETS];
    _Atomic uint32_t count;
};

/* A mapping outside the window.  end: 0 free, 1 being written, else published.  Writer: task. */
struct outside {
    _Atomic uintptr_t start;
    _Atomic uintptr_t end;
};

/* A range beside the window; an entry of `outside` covers it.  start: 0 free, 1 being written, else
 * published.  Writer: task. */
struct extent {
    _Atomic uintptr_t start;
    uintptr_t end;
    _Atomic uintptr_t cursor;
};

struct slot {
    _Atomic uint64_t generation; /* root */
    _Atomic uint32_t state;      /* root: enum slot_state */
    _Atomic uint32_t interest;   /* root: wants to hear of exports */
    struct task_block *block;    /* root: before RUNNING */
    _Atomic uint32_t doorbell;   /* futex; counts exports (task), start and end (root) */
    _Atomic uint32_t held;       /* any importer, sticky: look into the hold tables */

    _Alignas(64) _Atomic uintptr_t cursor; /* task: next free address of the window */
    _Atomic uintptr_t spare;               /* task: next free address behind ld.so's data */
    _Atomic uint32_t started;              /* task: enum task_started */
    _Atomic uint32_t failure;              /* task: enum aiopip_failure */
    _Atomic int32_t error;                 /* task */
    _Atomic uint32_t loaded;               /* task: enum task_loaded */
    _Atomic uint32_t quiet;                /* task: ended by _exit with no other thread alive */
    struct extent extents[SHARED_EXTENTS]; /* task; root, when all is unmapped */
};

struct control {
    uint64_t magic;
    uint32_t abi_version;
    uint32_t bytes;
    uint32_t max_tasks;
    int32_t root_pid;
    uintptr_t windows; /* start of the window of slot 0 */
    size_t window_bytes;
    uintptr_t overflow_start; /* for mappings that no window takes */
    uintptr_t overflow_end;
    struct area *area;           /* window.c's */
    struct export_table exports; /* the root's */
    _Atomic uint32_t exports_doorbell;

    _Alignas(64) _Atomic uint32_t spawner_word;        /* futex; anybody adds and wakes */
    _Atomic uintptr_t overflow_cursor;                 /* any task adds */
    _Atomic uint64_t mappings_made;                    /* any task adds */
    _Atomic uint64_t untracked;                        /* any task adds */
    _Atomic uint32_t holds_dropped;                    /* tasks set, the spawner clears */
    _Atomic uint64_t attention[AIOPIP_MAX_TASKS / 64]; /* tasks set their bit, the spawner clears */
    struct slot slots[];
};

/* What the child does between clone and ld.so; see child.c.  Written by the spawner. */
struct task_start {
    uintptr_t entry;
    uintptr_t stack;
    const char *cwd;         /* or NULL */
    int32_t stdio[3];        /* source descriptors, -1: closed */
    uint32_t reset_handlers; /* 1: clone did not */
    uint64_t signal_mask;
    struct kernel_rlimit data_limit; /* the user's; the preload puts it back */
    struct kernel_rlimit file_limit;
    uint32_t set_file_limit;
    uint32_t set_scheduler;
    uint32_t set_affinity;
    uint32_t affinity_bytes;
    struct kernel_sched_attr scheduler;
    uint64_t affinity[128]; /* 8192 processors */
    char comm[16];
};

/* The top of a task's stack mapping. */
struct task_block {
    uint64_t magic;
    uint32_t abi_version;
    int32_t pipid;
    uint64_t generation;
    struct control *control;
    struct slot *slot;
    _Atomic int32_t pid; /* the kernel writes it before the task's first instruction */
    uintptr_t window_start;
    uintptr_t window_first; /* behind stack and block; where the cursor starts over */
    uintptr_t window_end;
    uintptr_t spare_end;
    struct task_start start;
    struct outside outside[SHARED_OUTSIDE];
    _Atomic uintptr_t aio[SHARED_AIO]; /* contexts of io_setup, 0: none; io_destroy at the end */
    struct export_table exports;
    _Atomic uint64_t holds[]; /* for each slot: generation << 16 | count, 0: none.  Writer: task */
};

#define SHARED_HOLD_COUNT 0xffffUL /* so many or more: it stays until the importer ends */
#define SHARED_HOLD_SHIFT 16

static inline size_t align_up(size_t value, size_t to)
{
    return (value + to - 1) & ~(to - 1);
}

static inline int shared_futex_wake(_Atomic uint32_t *word, int count)
{
    return (int)sys3(SYS_futex, (long)(uintptr_t)word, 1 | 128 /* WAKE | PRIVATE */, count);
}

/* Sleep while *word is value, timeout (relative, struct timespec of the kernel) or forever. */
static inline int shared_futex_wait(_Atomic uint32_t *word, uint32_t value, const void *timeout)
{
    return (int)sys4(SYS_futex, (long)(uintptr_t)word, 0 | 128 /* WAIT | PRIVATE */, (long)value,
                     (long)(uintptr_t)timeout);
}

/* Have those look who wait for what a slot's task exports. */
static inline void shared_ring_doorbell(_Atomic uint32_t *doorbell)
{
    atomic_fetch_add(doorbell, 1);
    shared_futex_wake(doorbell, 0x7fffffff);
}

/* Have the spawner look around.  The word changes before the wake, and the spawner reads it before
 * it looks: whatever was published before this call is seen, or its wait returns at once. */
static inline void shared_wake_spawner(struct control *control)
{
    atomic_fetch_add_explicit(&control->spawner_word, 1, memory_order_seq_cst);
    shared_futex_wake(&control->spawner_word, 1);
}

#endif
