/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm_state.h: what is written down of a task in whose window the next one shall begin behind ld.so; see
 * warm.h.  By the task itself, in task/warm.c.
 */
#ifndef WARM_STATE_H
#define WARM_STATE_H

#include <limits.h>
#include <sys/stat.h>

#include "shared.h"

#define WARM_RANGES 96
#define WARM_FILES 32
#define WARM_NAMES (8UL << 10)
#define WARM_PAGES 1024

/* A mapping, as the kernel tells of it. */
struct warm_range {
    uintptr_t start, end;
    uint64_t rights; /* of PROCMAP_QUERY */
    uint64_t offset, inode;
    uint32_t major, minor;
};

/* A file that ld.so has read, by what stat tells; status.st_ino 0: one that was not there. */
struct warm_file {
    const char *path;
    struct stat status;
};

enum warm_kind {
    WARM_CLEAN,   /* it may be written to, and is that of its file still */
    WARM_WRITTEN, /* it may be written to, and is the task's own */
    WARM_FIXED,   /* it is the task's own, and may be written to no more */
};

struct warm_page {
    uintptr_t address;
    const uint8_t *contents; /* NULL: zero */
    enum warm_kind kind;
};

struct warm {
    /* The spawner's. */
    uint64_t name_hash; /* of the program as the caller named it */
    char program[PATH_MAX];
    char libpython[PATH_MAX];
    const void *image, *seed;
    size_t stack_bytes;
    uint64_t stack_limit;

    /* The task's, before it publishes `complete`. */
    _Atomic uint32_t complete;
    uintptr_t entry;           /* of the program */
    uintptr_t stack;           /* where its arguments began: the next task's lie below */
    const uint64_t (*auxv)[2]; /* above that, and the next task's, too */
    size_t auxv_count;         /* AT_NULL is the last */
    uintptr_t thread;          /* the thread pointer */
    int32_t *thread_id;        /* what set_tid_address was given */
    uintptr_t robust_list;     /* what set_robust_list was given */
    size_t robust_bytes;
    uintptr_t rseq;                  /* what rseq was given; 0: nothing */
    const char *loaded, *executable; /* of struct task_start: program, executable */
    uintptr_t cursor, spare;         /* of struct slot */
    size_t range_count, file_count, page_count, contents_count;
    struct warm_range ranges[WARM_RANGES]; /* by address */
    struct warm_file files[WARM_FILES];
    char names[WARM_NAMES];
    struct warm_page pages[WARM_PAGES];                          /* by address */
    _Alignas(ARCH_PAGE) uint8_t contents[WARM_PAGES][ARCH_PAGE]; /* used one after the other */
};

/* What to ask for pages of a range that are no longer those of a file, nor zero: the task's own.  One that
 * is said to be swapped out may be a marker as well (MADV_GUARD_INSTALL): neither is dealt with. */
static inline struct kernel_pagemap_scan
warm_written_pages(uintptr_t start, uintptr_t end, struct kernel_page_region *regions, size_t count)
{
    return (struct kernel_pagemap_scan){
        .size = sizeof(struct kernel_pagemap_scan),
        .start = start,
        .end = end,
        .vec = (uintptr_t)regions,
        .vec_len = count,
        .category_inverted = KERNEL_PAGE_FILE | KERNEL_PAGE_ZERO,
        .category_mask = KERNEL_PAGE_FILE | KERNEL_PAGE_ZERO,
        .category_anyof_mask = KERNEL_PAGE_PRESENT | KERNEL_PAGE_SWAPPED,
        .return_mask = KERNEL_PAGE_PRESENT | KERNEL_PAGE_SWAPPED,
    };
}

#endif
