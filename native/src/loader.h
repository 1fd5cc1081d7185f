/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loader.h: the mmap calls of a task's ld.so.
 *
 * Freestanding: they are made before the task has thread-local storage.
 */
#ifndef LOADER_H
#define LOADER_H

#include "shared.h"

/* A call as arch_loader_mmap has it from the registers. */
struct loader_call {
    uintptr_t address;
    size_t bytes;
    long protection, flags, descriptor, offset;
    uintptr_t site; /* where ld.so has made it, in the task's own window */
};

/* What the system call returns: an address, or -errno. */
__attribute__((visibility("hidden"))) long loader_mmap(const struct loader_call *call);

#endif
