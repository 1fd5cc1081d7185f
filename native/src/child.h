/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child.h: from clone to ld.so.
 */
#ifndef CHILD_H
#define CHILD_H

#include "shared.h"

/* The first function of a task, on the task's stack: applies block->start, reports and enters
 * ld.so; or reports what failed and exits with 127.  argument: struct task_block *. */
__attribute__((visibility("hidden"))) void child_main(void *argument);

/* All that a child does which is there to be stopped: it stops itself.  argument: struct control *. */
__attribute__((visibility("hidden"))) void child_stop(void *argument);

#endif
