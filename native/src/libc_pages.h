/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libc_pages.h: the pages of libc's text in which tasks have jumps, one copy for all of them.
 *
 * Tasks have others in the place of some of libc's functions (task/preload.c).  To write the jumps each
 * would have half a dozen pages of its own, and more than the memory counts that each write has all
 * other processors flush what they know of the address space.  In this copy each function jumps to
 * where a table says, which is in the task's own memory: behind libc's variables, in their last page.
 * So it is the same for all that have the same libc as this process.
 */
#ifndef LIBC_PAGES_H
#define LIBC_PAGES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct core;

/* In the order of the table. */
#define LIBC_FUNCTIONS                                                \
    {"mmap",    "mmap64", "munmap", "mremap",   "brk",        "sbrk", \
     "syscall", "shmat",  "_exit",  "readlink", "readlinkat", "execve"}
#define LIBC_FUNCTION_COUNT 12
#define LIBC_BUILD_ID_MAX 32

/* Addresses are from where libc is loaded.  Writer: the spawner, before the first task. */
struct libc_pages {
    char path[64];          /* of the copy, for tasks; "": there is none */
    uint64_t device, inode; /* of the copy */
    size_t start, end;      /* of the pages */
    size_t table;
    size_t functions[LIBC_FUNCTION_COUNT]; /* 0: not one that can be led elsewhere */
    size_t build_id;                       /* where libc says which one it is */
    uint32_t build_id_bytes;
    uint8_t build_id_is[LIBC_BUILD_ID_MAX];
};

/* What the copy is made of. */
struct libc_text {
    const char *path; /* of libc's file; NULL: none is made */
    off_t offset;     /* of the pages there */
    off_t build_id;
    struct libc_pages pages;
};

/* Look at the libc that this process has.  In the thread that opens the core: it may be one that has ld.so
 * load something, and others would wait for its end. */
void libc_pages_find(struct libc_text *text);

/* Make the copy, if that can be done: its descriptor, or -1.  Spawner only. */
int libc_pages_make(struct core *core);

#endif
