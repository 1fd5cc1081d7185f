/* SPDX-License-Identifier: BSD-2-Clause
 *
 * elf_file.c: see elf_file.h.  Files come from anywhere: every number is checked before its use.
 */
#include "elf_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arch_x86_64.h"

static int check_header(const struct elf_file *elf, const char *path, struct program_error *error)
{
    const Elf64_Ehdr *header = &elf->header;

    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
        header->e_machine != ARCH_ELF_MACHINE)
        return program_fail(error, AIOPIP_FAILED_MACHINE, ENOEXEC, "%s", path);
    if (header->e_type != ET_DYN && header->e_type != ET_EXEC)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC,
                            "%s: neither program nor shared object", path);
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phnum > ELF_MAX_HEADERS)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: program headers", path);
    return 0;
}

static int check_segments(const struct elf_file *elf, const char *path, struct program_error *error)
{
    uint64_t last = 0;
    int loads = 0;

    for (int i = 0; i < elf->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_LOAD && segment->p_type != PT_INTERP &&
            segment->p_type != PT_DYNAMIC)
            continue;
        if (segment->p_offset > elf->bytes || segment->p_filesz > elf->bytes - segment->p_offset)
            return program_fail(error, AIOPIP_FAILED_TRUNCATED, ENOEXEC, "%s", path);
        if (segment->p_type != PT_LOAD)
            continue;
        if (segment->p_memsz < segment->p_filesz || segment->p_vaddr < last ||
            segment->p_memsz > (1UL << 46) || segment->p_vaddr > (1UL << 46) ||
            (segment->p_vaddr ^ segment->p_offset) % ARCH_PAGE)
            return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: segments", path);
        last = segment->p_vaddr + segment->p_memsz;
        loads++;
    }
    if (loads == 0)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: nothing to load", path);
    return 0;
}

int elf_read(int descriptor, uint64_t bytes, const char *path, struct elf_file *elf,
             struct program_error *error)
{
    Elf64_Ehdr *header = &elf->header;

    elf->bytes = bytes;
    ssize_t got = pread(descriptor, header, sizeof *header, 0);
    if (got < 0)
        return program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", path);
    if ((size_t)got < sizeof *header)
        return program_fail(error, AIOPIP_FAILED_TRUNCATED, ENOEXEC, "%s", path);
    int result = check_header(elf, path, error);
    if (result < 0)
        return result;
    size_t table = sizeof(Elf64_Phdr) * header->e_phnum;
    if (header->e_phoff > bytes || table > bytes - header->e_phoff)
        return program_fail(error, AIOPIP_FAILED_TRUNCATED, ENOEXEC, "%s", path);
    got = pread(descriptor, elf->segments, table, (off_t)header->e_phoff);
    if (got < 0)
        return program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", path);
    if ((size_t)got < table)
        return program_fail(error, AIOPIP_FAILED_TRUNCATED, ENOEXEC, "%s", path);
    return check_segments(elf, path, error);
}

const Elf64_Phdr *elf_segment(const struct elf_file *elf, uint32_t type)
{
    for (int i = 0; i < elf->header.e_phnum; i++)
        if (elf->segments[i].p_type == type)
            return &elf->segments[i];
    return NULL;
}
