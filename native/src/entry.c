/* SPDX-License-Identifier: BSD-2-Clause
 *
 * entry.c: see entry.h.  A function need not be exported: the table for debuggers (.symtab) is read
 * first, then that for ld.so (.dynsym).  Files come from anywhere: every number is checked.
 */
#include "entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_file.h"

/* A symbol table and its names, in memory. */
struct table {
    Elf64_Sym *symbols;
    size_t count;
    char *names; /* ended by a NUL of ours */
    size_t names_bytes;
};

/* ---- Reading ---------------------------------------------------------------------------------- */

/* A part of the file, and a NUL; NULL when it is not within the file. */
static void *read_part(int file, const struct elf_file *elf, uint64_t offset, uint64_t bytes)
{
    if (offset > elf->bytes || bytes > elf->bytes - offset)
        return NULL;
    char *part = malloc(bytes + 1);
    if (part && pread(file, part, bytes, (off_t)offset) != (ssize_t)bytes) {
        free(part);
        return NULL;
    }
    if (part)
        part[bytes] = 0;
    return part;
}

/* The table of a type; empty when there is none that makes sense. */
static struct table read_table(int file, const struct elf_file *elf, const Elf64_Shdr *sections,
                               uint32_t type)
{
    struct table table = {0};

    for (size_t i = 0; sections && i < elf->header.e_shnum; i++) {
        const Elf64_Shdr *section = &sections[i];
        if (section->sh_type != type || section->sh_link >= elf->header.e_shnum)
            continue;
        const Elf64_Shdr *names = &sections[section->sh_link];
        table.symbols = read_part(file, elf, section->sh_offset, section->sh_size);
        table.names = read_part(file, elf, names->sh_offset, names->sh_size);
        if (table.symbols && table.names) {
            table.count = section->sh_size / sizeof *table.symbols;
            table.names_bytes = names->sh_size;
        }
        break;
    }
    return table;
}

static void free_table(struct table *table)
{
    free(table->symbols);
    free(table->names);
}

/* ---- Looking ---------------------------------------------------------------------------------- */

static bool is_named(const struct table *table, const Elf64_Sym *symbol, const char *name)
{
    return symbol->st_name < table->names_bytes &&
           strcmp(table->names + symbol->st_name, name) == 0;
}

static bool is_code(const struct elf_file *elf, uint64_t address)
{
    for (int i = 0; i < elf->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X && address >= segment->p_vaddr &&
            address - segment->p_vaddr < segment->p_filesz)
            return true;
    }
    return false;
}

/* How many functions have the name; *address is that of one.  A global one is meant before static
 * ones of several files. */
static int find_function(const struct elf_file *elf, const struct table *table, const char *name,
                         uintptr_t *address)
{
    int found = 0;

    for (size_t i = 0; i < table->count; i++) {
        const Elf64_Sym *symbol = &table->symbols[i];
        if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF ||
            !is_named(table, symbol, name) || !is_code(elf, symbol->st_value))
            continue;
        found += found == 0 || *address != symbol->st_value;
        *address = symbol->st_value;
        if (ELF64_ST_BIND(symbol->st_info) != STB_LOCAL)
            return 1;
    }
    return found;
}

/* Whether libc's function is called by which the preload is asked to run something else than main. */
static bool starts_by_libc(const struct table *dynamic)
{
    for (size_t i = 0; i < dynamic->count; i++)
        if (dynamic->symbols[i].st_shndx == SHN_UNDEF &&
            is_named(dynamic, &dynamic->symbols[i], "__libc_start_main"))
            return true;
    return false;
}

static const char *look(int file, const struct elf_file *elf, const char *name, uintptr_t *address)
{
    Elf64_Shdr *sections =
        elf->header.e_shentsize == sizeof *sections
            ? read_part(file, elf, elf->header.e_shoff, elf->header.e_shnum * sizeof *sections)
            : NULL;
    struct table dynamic = read_table(file, elf, sections, SHT_DYNSYM);
    struct table all = read_table(file, elf, sections, SHT_SYMTAB);
    const char *problem = NULL;

    int found = find_function(elf, &all, name, address);
    if (found == 0)
        found = find_function(elf, &dynamic, name, address);
    if (found != 1)
        problem = found ? "ambiguous" : "missing";
    else if (!starts_by_libc(&dynamic))
        problem = "start";
    free_table(&dynamic);
    free_table(&all);
    free(sections);
    return problem;
}

int entry_find(const struct program *program, const char *name, uintptr_t *address,
               struct program_error *error)
{
    const char *problem = program->word_count ? "script" : program->libpython[0] ? "python" : NULL;
    struct elf_file elf;
    struct stat status;
    int result = 0;

    if (!problem) {
        int file = open(program->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (file < 0 || fstat(file, &status) < 0)
            result = program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", program->path);
        else
            result = elf_read(file, (uint64_t)status.st_size, program->path, &elf, error);
        if (result == 0)
            problem = look(file, &elf, name, address);
        if (file >= 0)
            close(file);
    }
    return problem ? program_fail(error, AIOPIP_FAILED_ENTRY, ENOEXEC, "%s %s", problem, name)
                   : result;
}
