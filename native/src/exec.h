/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exec.h: what cannot be a task, in a process with a memory of its own.
 */
#ifndef EXEC_H
#define EXEC_H

#include "core.h"

/* Whether a program that cannot be a task shall be executed, and may be.  error: why it cannot be a
 * task; number: its errno. */
bool exec_can(const struct aiopip_spawn_request *spawn, const struct program_error *error,
              int number);

/* Whether a program shall be executed, task or not: it is to run as another user, and that user's files
 * and rights are the kernel's to judge.  Who asks for this wants it kept apart from our memory, too. */
bool exec_must(const struct aiopip_spawn_request *spawn);

/* Lists for execve, which point into the request.  0, and *plan is the caller's to free; or -ENOMEM,
 * with *error filled in. */
int exec_plan(const struct aiopip_spawn_request *spawn, struct exec_plan **plan,
              struct program_error *error);

/* Map the stack on which the child comes to its execve, and the block.  0 or -errno, with *error filled
 * in; what was mapped before a failure stays for window_unmap. */
int exec_map(struct core *core, const struct request *request, const struct exec_plan *plan,
             struct task_block **block, uintptr_t *stack_start, struct program_error *error);

#endif
