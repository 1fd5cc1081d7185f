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
#include "libc_pages.h"

#define SHARED_MAGIC 0x31504950414f4941UL
#define SHARED_AUXV_TYPE 0x50495041 /* the auxiliary vector's entry that leads to a task's block */

#define SHARED_OUTSIDE 256
#define SHARED_EXTENTS 16
#define SHARED_AIO 32
#define SHARED_GAP (64UL << 10)

enum slot_state {
    SLOT_FREE,
    SLOT_TAKEN,   /* the generation is being changed */
    SLOT_QUEUED,  /* no process that is known of yet; from the clone on it is open */
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

/* ---- What processes of the space give to each other ------------------------------------------- */

/* A process of the space is a peer: a task by its slot's number, the root by this one. */
#define PEER_ROOT AIOPIP_MAX_TASKS

/* An array as its exporter describes it; in the exporter's memory, and read by others only while
 * they hold the export.  Writer: the exporter, before the export is published. */
struct export_record {
    uintptr_t address;
    uintptr_t start, end; /* all that belongs to it; 0 and UINTPTR_MAX: unknown, as C exports it */
    uint64_t origin;      /* what the exporter holds of another peer, who has given it; or 0 */
    uint32_t origin_hold; /* the number of that hold, which is the export's own */
    uint32_t flags;       /* enum aiopip_array_flags */
    uint32_t name_bytes;
    uint32_t dtype_bytes;
    uint32_t ndim;
    int64_t dims[]; /* shape, strides; then the bytes of name and dtype */
};

enum export_state {
    EXPORT_FREE,
    EXPORT_PUBLISHED,
    EXPORT_WITHDRAWN, /* its name is free; somebody holds it, or the owner has not looked yet */
};

/* An entry of a table; what follows differs.  word 0, or its state FREE: nobody's. */
struct table_entry {
    _Atomic uint64_t word;
    uint32_t next; /* of a list of the owner's: index + 1, 0: the last */
};

/* Never unmapped as long as the exporter's memory is there, so that it can be looked at before it is
 * held.  word: hash << 32 | version << 4 | state; the version changes with each use.  Writer: the
 * exporter; `marks` are flags that importers set. */
enum export_marks {
    EXPORT_LOOKED_AT = 1, /* somebody may hold it, or may have */
    EXPORT_IMPORTED = 2,
};

struct export_entry {
    _Atomic uint64_t word;
    uint32_t next;
    _Atomic uint32_t marks;
    _Atomic(struct export_record *) record;
};

/* A hold: the word says of what: (peer + 1) << 48 | index << 28 | version, the range how much of the
 * exporter's memory has to stay.  Index SHARED_INDEX_ALL: no export in particular.  Writer: the
 * holder. */
struct hold_entry {
    _Atomic uint64_t word;
    uint32_t next;
    _Atomic uint32_t settled; /* it is what it says; else it is being made */
    uint32_t stays;           /* a C import's: nobody gives it back */
    _Atomic uintptr_t start, end;
};

#define SHARED_INDEX_BITS 20
#define SHARED_INDEX_ALL ((1U << SHARED_INDEX_BITS) - 1)
#define SHARED_VERSION_BITS 28
#define SHARED_VERSION_MASK ((1U << SHARED_VERSION_BITS) - 1)
#define SHARED_PEER_SHIFT (SHARED_INDEX_BITS + SHARED_VERSION_BITS)

/* Entries that are added and never moved: chunk n has FIRST << n of them. */
#define SHARED_CHUNKS 16
#define SHARED_CHUNK_FIRST 16

/* The lock is for the threads of the owner alone; others read without it. */
struct table {
    _Atomic uint32_t lock; /* 0 free, 1 taken, 2 taken and waited for */
    _Atomic uint32_t used; /* entries that were ever in use are below it */
    uint32_t free;         /* the first free one: index + 1, 0: none */
    _Atomic(char *) chunks[SHARED_CHUNKS];
};

/* What one peer exports and holds.  Writer: that peer. */
struct sharing {
    uint32_t first_version; /* root: before it is open; see exports_begin() */
    struct table exports;   /* of struct export_entry */
    struct table holds;     /* of struct hold_entry */
    _Atomic uint32_t published;
    _Atomic uint32_t kept; /* published, and to be kept beyond the exporter's end */
};

/* What is always there of a peer, whatever becomes of its memory. */
struct peer {
    _Atomic uint64_t generation; /* root: of the slot's last task */
    _Atomic uint64_t open;   /* root: the generation, while its memory may be held anew; else 0 */
    struct sharing *sharing; /* root: before it is open */
    _Atomic uint32_t bell;   /* futex; anybody adds: what the peer waits for may have come */
    _Atomic uint32_t ends;   /* futex; root: counts the ends of the slot's tasks */
    _Atomic uint32_t wants_releases; /* the peer: tell it when holds of its exports are given up */
    _Atomic uint64_t transfers;      /* anybody adds: a hold of it was taken over */
    _Atomic uint64_t waiters[AIOPIP_MAX_TASKS / 64];   /* tasks to ring at its next export, start
                                                          or end: they set their bit, who rings
                                                          clears */
    _Atomic uint64_t importers[AIOPIP_MAX_TASKS / 64]; /* tasks that may hold something of it: they
                                                          set their bit, the root clears all */
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
    struct peer peer;
    _Atomic uint32_t state;    /* root: enum slot_state */
    _Atomic uint32_t interest; /* root: wants to hear of exports */
    struct task_block *block;  /* root: before RUNNING */

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
    struct area *area; /* window.c's */
    struct libc_pages libc_pages;
    struct peer root;
    struct sharing root_sharing;

    _Alignas(64) _Atomic uint32_t spawner_word;    /* futex; anybody adds and wakes */
    _Atomic uint32_t loads_wanted;                 /* the spawner: wake it when a task has loaded
                                                      or ended; a spawn waits for that */
    _Atomic uintptr_t overflow_cursor;             /* any task adds */
    _Atomic uint64_t mappings_made;                /* any task adds */
    _Atomic uint64_t untracked;                    /* any task adds */
    _Atomic uint32_t releases;                     /* any peer sets, the spawner clears */
    _Atomic uint32_t looks_wanted;                 /* any peer sets, the spawner clears */
    _Atomic uint64_t looks[AIOPIP_MAX_TASKS / 64]; /* slots to look at: any peer sets, the reaper
                                                          clears */
    _Atomic uint64_t attention[AIOPIP_MAX_TASKS / 64]; /* tasks set their bit, the spawner clears */
    struct slot slots[];
};

/* What a child executes that is no task; see exec.c.  The lists end with NULL. */
struct exec_plan {
    const char **paths; /* tried one after the other, as execvp does */
    const char **argv;
    const char **envp;
};

/* What the child does between clone and ld.so; see child.c.  Written by the spawner. */
struct task_start {
    uintptr_t entry;
    uintptr_t stack;
    const char *cwd;         /* or NULL */
    int32_t stdio[3];        /* source descriptors, -1: closed */
    uint32_t flags;          /* enum aiopip_spawn_flags */
    int32_t process_group;   /* of setpgid(0, process_group) */
    int32_t event_fd;        /* to tell the client by that it has started; -1: tell the spawner */
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
    struct aiopip_spawn_options *options; /* the task's own copy, or NULL */
    const char *program;                  /* what ld.so loads */
    const char *executable;               /* the program, which may be another file then */
    const char *preload;
    uintptr_t function; /* options->entry's address in its file */
    int32_t dumpable;   /* PR_GET_DUMPABLE of the space, where credentials are changed; else 0 */
    const struct exec_plan *exec; /* NULL: a task; freed when the clone has returned */
    struct warm *warm;            /* to be filled in by the task, or NULL */
    uintptr_t resume;             /* where it goes on in ld.so, in the state of *warm; 0: entry */
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
    uintptr_t object; /* task: what its ld.so has mapped last from the beginning of a file */
    uintptr_t object_end;
    int32_t object_file; /* task: its descriptor, if all of it may be executed; or -1 */
    struct task_start start;
    const char *failed_option; /* task: before it reports AIOPIP_FAILED_OPTIONS */
    int32_t failed_part;       /* task: likewise; -1: the option has no parts */
    _Atomic uint32_t gate;     /* futex; root: 1 when a task that shall be stopped may go on */
    _Atomic uint32_t lends;    /* task: 1: the kernel may read from its pages when it has ended */
    _Atomic uintptr_t aio[SHARED_AIO]; /* contexts of io_setup, 0: none; io_destroy at the end */
    struct sharing sharing;
    struct outside outside[SHARED_OUTSIDE]; /* last: few tasks have any, and it is a page */
};

#define SHARED_BLOCK_BYTES ((sizeof(struct task_block) + ARCH_PAGE - 1) & -ARCH_PAGE)

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

static inline struct peer *shared_peer(struct control *control, uint32_t number)
{
    return number == PEER_ROOT ? &control->root : &control->slots[number].peer;
}

static inline void shared_set_bit(_Atomic uint64_t *bits, uint32_t number)
{
    uint64_t bit = 1UL << number % 64;

    if (!(atomic_load(&bits[number / 64]) & bit))
        atomic_fetch_or(&bits[number / 64], bit);
}

static inline bool shared_take_bit(_Atomic uint64_t *bits, uint32_t number)
{
    uint64_t bit = 1UL << number % 64;

    return atomic_load(&bits[number / 64]) & bit &&
           atomic_fetch_and(&bits[number / 64], ~bit) & bit;
}

/* For the spawner a task has loaded or ended, which was published before.  The spawner says that it
 * wants to know before it looks, and this looks behind the publishing: one of the two sees the other. */
static inline bool shared_loads_wanted(struct control *control)
{
    return atomic_load(&control->loads_wanted);
}

/* Have the spawner look around.  The word changes before the wake, and the spawner reads it before
 * it looks: whatever was published before this call is seen, or its wait returns at once. */
static inline void shared_wake_spawner(struct control *control)
{
    atomic_fetch_add_explicit(&control->spawner_word, 1, memory_order_seq_cst);
    shared_futex_wake(&control->spawner_word, 1);
}

#endif
