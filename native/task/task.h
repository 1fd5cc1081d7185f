/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task.h: what the parts of the preloaded library share.
 */
#ifndef TASK_H
#define TASK_H

#include "libc_symbols.h"
#include "shared.h"

#pragma GCC visibility push(hidden)

/* The task's block; NULL before the constructor has run, and where this is no task of this version. */
extern struct task_block *task_block;

/* The same, looked for. */
struct task_block *task_find_block(void);

/* Its libc; start_main is 0 before the constructor has run. */
extern struct symbols task_libc;

/* own_program.c: the task's program where a path asks for that of this process; else NULL. */
const char *task_own_program(const char *path);

/* What stands in for libc's; and a system call, readlink or readlinkat. */
long task_readlink(const char *path, char *into, size_t room);
long task_readlinkat(int directory, const char *path, char *into, size_t room);
int task_execve(const char *path, char *const *argv, char *const *envp);
long task_raw_readlink(long number, long directory, const char *path, char *into, long room);

/* libc_pages.c: lead libc's functions, in the order of LIBC_FUNCTIONS, to what stands in for them by the
 * root's copy of their pages: 1, or 0, and nothing has changed. */
int task_map_libc_pages(const uintptr_t functions[], void *const substitutes[]);

/* break.c: where the break is; and what sbrk and brk are to do: where it was, 0, or -ENOMEM. */
uintptr_t task_break(void);
long task_move_break(intptr_t by);
long task_set_break(uintptr_t to);

/* warm.c: fill block->start.warm in, and publish it if nothing is missing. */
void task_capture(const struct task_block *block);

#pragma GCC visibility pop

#endif
