/* SPDX-License-Identifier: BSD-2-Clause
 *
 * elf_file.h: the headers of an ELF file, read and checked against its size.
 */
#ifndef ELF_FILE_H
#define ELF_FILE_H

#include <elf.h>

#include "program.h"

#define ELF_MAX_HEADERS 64

struct elf_file {
    Elf64_Ehdr header;
    Elf64_Phdr segments[ELF_MAX_HEADERS];
    uint64_t bytes; /* of the file */
};

/* Read the headers of an open file that begins like ELF.  A shared object or program of this
 * architecture whose segments lie within the file and in order: 0; else -ENOEXEC or the error of a
 * read, with *error filled in, path in its text.  One at a fixed address (ET_EXEC), which can be
 * read but not be mapped, is for the caller to refuse. */
int elf_read(int descriptor, uint64_t bytes, const char *path, struct elf_file *elf,
             struct program_error *error);

/* The program header of a type, or NULL. */
const Elf64_Phdr *elf_segment(const struct elf_file *elf, uint32_t type);

#endif
