/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child.h: from clone to ld.so, or to execve.
 */
#ifndef CHILD_H
#define CHILD_H

#include "shared.h"

#define CHILD_NO_PART (-1)
#define HIDDEN __attribute__((visibility("hidden")))

/* The first function of a task, on the task's stack: applies block->start, reports and enters
 * ld.so, or executes block->start.exec; or reports what failed and exits with 127.  argument: struct
 * task_block *. */
HIDDEN void child_main(void *argument);

/* All that a child does which is there to be stopped: it stops itself.  argument: struct control *. */
HIDDEN void child_stop(void *argument);

/* Have the kernel kill this process when the root ends, or end at once when it has. */
HIDDEN void child_die_with_root(const struct control *control);

/* Report what failed, and end.  error: minus an errno. */
HIDDEN __attribute__((noreturn)) void child_fail(struct task_block *block,
                                                 enum aiopip_failure failure, long error);

/* Report that an option cannot be applied, and end.  The option's name is a text of this library,
 * which is where the root reads it, too; part: which of its parts, or CHILD_NO_PART. */
HIDDEN __attribute__((noreturn)) void child_fail_option(struct task_block *block,
                                                        const char *option, int part, long error);

/* child_descriptors.c: give the task its descriptors, and no others. */
HIDDEN void child_place_descriptors(struct task_block *block);

/* Close all but 0 to 2, where a descriptor of ours was still to be written to; see tell_started. */
HIDDEN void child_close_descriptors(struct task_block *block);

/* child_options.c: apply block->start.options, which are given. */
HIDDEN void child_limit(struct task_block *block);
HIDDEN void child_renice(struct task_block *block);
HIDDEN void child_change_credentials(struct task_block *block);

#undef HIDDEN
#endif
