/* SPDX-License-Identifier: BSD-2-Clause
 *
 * program.h: from what the caller named to a file that ld.so can load, as execve would find it.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "aiopip.h"

#define PROGRAM_INTERPRETER_MAX 256
#define PROGRAM_SCRIPT_LINE 256
#define PROGRAM_SCRIPT_DEPTH 5 /* scripts whose interpreters are scripts, as execve has it */
#define PROGRAM_WORDS 32
#define PROGRAM_STORE (2 * PATH_MAX + PROGRAM_SCRIPT_DEPTH * PROGRAM_SCRIPT_LINE)

/* Why a program cannot run. */
struct program_error {
    enum aiopip_failure failure;
    char detail[256];
};

struct program {
    char path[PATH_MAX];                       /* real path of the ELF file */
    char libpython[PATH_MAX];                  /* "", or the launcher runs this in path's place */
    char interpreter[PROGRAM_INTERPRETER_MAX]; /* PT_INTERP */
    /* For a script: what stands in place of argv[0], the interpreter first. */
    const char *words[PROGRAM_WORDS];
    size_t word_count; /* 0: no script */
    char store[PROGRAM_STORE];
    size_t stored;
};

/* Find and check a program.  name: a path, or searched in path_list (NULL: the default) when it has
 * no '/'; relative to cwd (NULL: the process's).  0, or -errno with *error filled in. */
int program_find(const char *name, const char *path_list, const char *cwd, struct program *program,
                 struct program_error *error);

/* The same for another user, as far as that decides: whether privileges would be gained. */
int program_check_for(const struct program *program, uid_t user, gid_t group,
                      struct program_error *error);

/* Say why: fills *error in and returns -number. */
int program_fail(struct program_error *error, enum aiopip_failure failure, int number,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
