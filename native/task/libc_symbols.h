/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libc_symbols.h: the task's own libc among the objects that ld.so has loaded, and its functions.
 */
#ifndef LIBC_SYMBOLS_H
#define LIBC_SYMBOLS_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One loaded object's symbols. */
struct symbols {
    uintptr_t base;
    const Elf64_Sym *table;
    const char *names;
    const uint32_t *gnu_hash; /* DT_GNU_HASH, or NULL */
    const uint32_t *hash;     /* DT_HASH, or NULL */
    uintptr_t start_main;     /* of libc: its __libc_start_main */
};

/* What is added to an address in the program's file. */
__attribute__((visibility("hidden"))) uintptr_t symbols_program_base(void);

/* The object that defines __libc_start_main: 1, or 0 when there is none. */
__attribute__((visibility("hidden"))) int symbols_of_libc(struct symbols *symbols);

/* A function's address, 0 when there is none of at least `bytes` bytes. */
__attribute__((visibility("hidden"))) uintptr_t symbols_find(const struct symbols *symbols,
                                                             const char *name, size_t bytes);

/* Visit where objects say that their libraries are (DT_RPATH, DT_RUNPATH), until a visit says no; object:
 * the name that ld.so has for it, "" is the program.  False then, and where loading is audited. */
__attribute__((visibility("hidden"))) bool
symbols_search_paths(bool (*visit)(void *argument, const char *path, const char *object),
                     void *argument);

#endif
