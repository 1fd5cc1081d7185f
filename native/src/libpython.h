/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libpython.h: CPython as a shared library, for an interpreter that is no position-independent
 * executable, as Debian's is not.
 */
#ifndef LIBPYTHON_H
#define LIBPYTHON_H

#include "program.h"

/* Find the library from which aiopip-python runs an interpreter.  python: its real path; library:
 * set to the library's path.  0, or -ENOEXEC with *error filled in: AIOPIP_FAILED_NOT_PIE when this
 * is no CPython of version 3.8 or newer, AIOPIP_FAILED_LIBPYTHON when there is no such library. */
int libpython_find(const char *python, char library[PATH_MAX], struct program_error *error);

#endif
