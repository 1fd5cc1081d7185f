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

/* Visit all objects by the name that ld.so has for them ("" is the program), and where they say that their
 * libraries are (DT_RPATH, DT_RUNPATH), until a visit says no.  False then, and where that is not all that
 * decides which libraries are loaded: they are audited, or named by a relative path. */
typedef bool symbols_visit_object(void *argument, const char *object);
typedef bool symbols_visit_path(void *argument, const char *path, const char *object);
__attribute__((visibility("hidden"))) bool symbols_visit_objects(symbols_visit_object *visit_object,
                                                                 symbols_visit_path *visit_path,
                                                                 void *argument);

#endif
