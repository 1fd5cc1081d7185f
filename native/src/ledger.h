/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ledger.h: where a task's mappings go, and how they are found again when it is dead.
 *
 * Freestanding: linked into the root's library (for ld.so's calls) and into the preload (for
 * libc's).  Any thread of a task may call these, in signal handlers too; they take no lock.  All
 * return what the system call returns: an address or -errno.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include "shared.h"

#define LEDGER_HIDDEN __attribute__((visibility("hidden")))

LEDGER_HIDDEN long ledger_mmap(struct task_block *block, uintptr_t address, size_t bytes,
                               long protection, long flags, long descriptor, long offset);
LEDGER_HIDDEN long ledger_munmap(struct task_block *block, uintptr_t address, size_t bytes);
LEDGER_HIDDEN long ledger_mremap(struct task_block *block, uintptr_t address, size_t bytes,
                                 size_t new_bytes, long flags, uintptr_t new_address);

/* The call that a task's ld.so makes at `site`, an address in its own window, without an address. */
LEDGER_HIDDEN long ledger_loader_mmap(uintptr_t site, size_t bytes, long protection, long flags,
                                      long descriptor, long offset);

/* The task in whose window that is, or NULL. */
LEDGER_HIDDEN struct slot *ledger_slot_of(uintptr_t site);

/* The control block in which both find the task; set by the core. */
LEDGER_HIDDEN extern struct control *ledger_control;

#endif
