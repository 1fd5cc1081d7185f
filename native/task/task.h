/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task.h: what the parts of the preloaded library share.
 */
#ifndef TASK_H
#define TASK_H

#include "libc_symbols.h"
#include "shared.h"

/* The task's block; NULL before the constructor has run, and where this is no task of this version. */
extern struct task_block *task_block __attribute__((visibility("hidden")));

/* The same, looked for. */
struct task_block *task_find_block(void) __attribute__((visibility("hidden")));

/* Its libc; start_main is 0 before the constructor has run. */
extern struct symbols task_libc __attribute__((visibility("hidden")));

#endif
