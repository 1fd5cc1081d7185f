/* SPDX-License-Identifier: BSD-2-Clause
 *
 * entry.h: a function of a program, by name.
 */
#ifndef ENTRY_H
#define ENTRY_H

#include "program.h"

/* The address that a function has in the program's file; the preload runs it in place of main.  0, or
 * -ENOEXEC with *error filled in. */
int entry_find(const struct program *program, const char *name, uintptr_t *address,
               struct program_error *error);

#endif
