/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stack.h: a task's first stack, as the kernel would have built it for
 * `ld.so --preload LIB --argv0 NAME PROGRAM ARGUMENTS...`; for a Python that cannot be mapped,
 * `ld.so --preload LIB:LIBPYTHON --argv0 NAME LAUNCHER ARGUMENTS...`.
 */
#ifndef STACK_H
#define STACK_H

#include "aiopip.h"
#include "image.h"
#include "seed.h"
#include "shared.h"
#include "warm_state.h"

#define STACK_AUXV_MAX 64
#define STACK_ROOM (128UL << 10) /* that a program has at least, beyond arguments and block */

/* What goes onto a stack. */
struct stack_content {
    const char *preload;
    const char *launcher; /* used for a program with a libpython */
    const struct program *program;
    const struct aiopip_spawn_request *request;
    const struct image *image;
    const struct seed *seed; /* what the image was given, or NULL */
    uintptr_t image_at;
    uint64_t (*auxv)[2]; /* the root's, ended by AT_NULL */
};

/* The bytes that strings and vectors need, or -E2BIG where execve would refuse them on a stack of
 * stack_bytes. */
long stack_measure(const struct stack_content *content, size_t stack_bytes);

/* Write them below `top`; returns the stack pointer to enter ld.so with. */
uintptr_t stack_build(const struct stack_content *content, uintptr_t top, struct task_block *block);

/* Write what a program finds behind ld.so below what the window's first task was given, which stays: all
 * but the arguments and the environment is that.  Returns the stack pointer to go on with. */
uintptr_t stack_continue(const struct stack_content *content, const struct warm *warm,
                         struct task_block *block);

/* Read the process's own auxiliary vector. */
void stack_read_auxv(uint64_t auxv[STACK_AUXV_MAX][2]);

#endif
