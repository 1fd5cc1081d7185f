/* SPDX-License-Identifier: BSD-2-Clause
 *
 * program_cache.h: what was read of programs that were started before.  For one thread.
 */
#ifndef PROGRAM_CACHE_H
#define PROGRAM_CACHE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "program.h"

/* Whether this very file, found under a path, was examined before and has not changed; then its real
 * path and its interpreter are filled in. */
bool program_cache_find(const struct stat *status, const char *found, struct program *program);

/* Whether a file is the same as it was, by device, inode, size and time of change. */
bool program_cache_is_same(const struct stat *a, const struct stat *b);

/* Remember an ELF file that ld.so loads. */
void program_cache_add(const struct stat *status, const struct program *program);

#endif
