/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libc_pages.c: see libc_pages.h.
 *
 * The text is read from libc's file, not from memory, where a debugger may have put its breakpoints; and
 * that it is still the file which this process has loaded, libc's build ID tells.
 */
#include "libc_pages.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "descriptor.h"

#define TABLE_BYTES (LIBC_FUNCTION_COUNT * sizeof(uintptr_t))
#define NOTE_HEADER_BYTES (sizeof(Elf64_Nhdr) + sizeof "GNU")

/* libc, as this process has it. */
struct libc {
    const char *path;
    uintptr_t base;
    const Elf64_Phdr *headers;
    int header_count;
};

/* By its name, since a program may have functions of its own by these names. */
static bool find_functions(struct libc *libc, struct libc_pages *pages)
{
    static const char *const names[LIBC_FUNCTION_COUNT] = LIBC_FUNCTIONS;
    void *handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    Dl_info info;

    void *first = handle ? dlsym(handle, names[0]) : NULL;
    bool found = first && dladdr(first, &info);
    pages->start = SIZE_MAX;
    for (size_t i = 0; found && i < LIBC_FUNCTION_COUNT; i++) {
        void *function = dlsym(handle, names[i]);
        if (!function)
            continue;
        size_t at = pages->functions[i] = (uintptr_t)function - (uintptr_t)info.dli_fbase;
        size_t end = align_up(at + ARCH_JUMP_BYTES, ARCH_PAGE);
        pages->start = pages->start < at ? pages->start : at & -ARCH_PAGE;
        pages->end = pages->end > end ? pages->end : end;
    }
    if (handle)
        dlclose(handle);
    if (!found)
        return false;
    const Elf64_Ehdr *header = info.dli_fbase;
    *libc = (struct libc){info.dli_fname, (uintptr_t)header,
                          (const Elf64_Phdr *)((const char *)header + header->e_phoff),
                          header->e_phnum};
    return true;
}

/* The segment with the functions, and whether there is room for the table behind the variables. */
static const Elf64_Phdr *find_room(const struct libc *libc, struct libc_pages *pages)
{
    const Elf64_Phdr *text = NULL;
    size_t end = 0;

    for (int i = 0; i < libc->header_count; i++) {
        const Elf64_Phdr *load = &libc->headers[i];
        if (load->p_type != PT_LOAD)
            continue;
        if (load->p_flags & PF_X && load->p_vaddr <= pages->start &&
            pages->end <= load->p_vaddr + load->p_filesz)
            text = load;
        end = load->p_flags & PF_W ? load->p_vaddr + load->p_memsz : 0;
    }
    pages->table = align_up(end, sizeof(uintptr_t));
    return end && pages->table + TABLE_BYTES <= align_up(end, ARCH_PAGE) ? text : NULL;
}

/* The build ID among some notes: where it is, or NULL. */
static const uint8_t *build_id_among(const uint8_t *notes, size_t bytes, uint32_t *id_bytes)
{
    while (bytes >= NOTE_HEADER_BYTES) {
        const Elf64_Nhdr *note = (const Elf64_Nhdr *)notes;
        size_t name_bytes = align_up(note->n_namesz, 4), step = align_up(note->n_descsz, 4);
        if (name_bytes > bytes - sizeof *note || step > bytes - sizeof *note - name_bytes)
            return NULL;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == sizeof "GNU" &&
            memcmp(note + 1, "GNU", sizeof "GNU") == 0) {
            *id_bytes = note->n_descsz;
            return notes + NOTE_HEADER_BYTES;
        }
        step += sizeof *note + name_bytes;
        notes += step;
        bytes -= step;
    }
    return NULL;
}

/* The build ID, and its offset in the file. */
static bool find_build_id(const struct libc *libc, struct libc_pages *pages, off_t *offset)
{
    for (int i = 0; i < libc->header_count; i++) {
        const Elf64_Phdr *header = &libc->headers[i];
        const uint8_t *notes = (const uint8_t *)(libc->base + header->p_vaddr);
        if (header->p_type != PT_NOTE)
            continue;
        const uint8_t *id = build_id_among(notes, header->p_filesz, &pages->build_id_bytes);
        if (!id || pages->build_id_bytes > LIBC_BUILD_ID_MAX)
            continue;
        pages->build_id = (uintptr_t)id - libc->base;
        memcpy(pages->build_id_is, id, pages->build_id_bytes);
        *offset = (off_t)header->p_offset + (id - notes);
        return true;
    }
    return false;
}

void libc_pages_find(struct libc_text *text)
{
    const Elf64_Phdr *segment;
    struct libc libc;

    *text = (struct libc_text){0};
    if (!find_functions(&libc, &text->pages) || !(segment = find_room(&libc, &text->pages)) ||
        !find_build_id(&libc, &text->pages, &text->build_id))
        return;
    text->offset = (off_t)(segment->p_offset + (text->pages.start - segment->p_vaddr));
    text->path = libc.path;
}

/* Read the pages: to be freed; NULL where that cannot be done, or the file is another one by now. */
static uint8_t *read_pages(const struct libc_text *text)
{
    size_t id_bytes = text->pages.build_id_bytes, bytes = text->pages.end - text->pages.start;
    uint8_t id[LIBC_BUILD_ID_MAX], *copy = malloc(bytes);
    int file = descriptor_take(open(text->path, O_RDONLY | O_CLOEXEC));

    bool is_read = file >= 0 && copy &&
                   pread(file, id, id_bytes, text->build_id) == (ssize_t)id_bytes &&
                   memcmp(id, text->pages.build_id_is, id_bytes) == 0 &&
                   pread(file, copy, bytes, text->offset) == (ssize_t)bytes;
    if (file >= 0)
        close(file);
    if (is_read)
        return copy;
    free(copy);
    return NULL;
}

/* Put the copy where tasks find it: its descriptor, or -1. */
static int publish(struct core *core, struct libc_pages *pages, const uint8_t *copy)
{
    const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    int descriptor = descriptor_take(memfd_create("libc.so.6", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    struct stat status;

    if (descriptor < 0)
        return -1;
    if (descriptor_write(descriptor, copy, pages->end - pages->start) < 0 ||
        fcntl(descriptor, F_ADD_SEALS, seals) < 0 || fstat(descriptor, &status) < 0) {
        close(descriptor);
        return -1;
    }
    pages->device = status.st_dev;
    pages->inode = status.st_ino;
    snprintf(pages->path, sizeof pages->path, "/proc/%d/task/%d/fd/%d", core->pid, gettid(),
             descriptor);
    core->control->libc_pages = *pages;
    return descriptor;
}

int libc_pages_make(struct core *core)
{
    struct libc_pages *pages = &core->libc.pages;
    uint8_t *copy = core->libc.path ? read_pages(&core->libc) : NULL;

    if (!copy)
        return -1;
    for (size_t i = 0; i < LIBC_FUNCTION_COUNT; i++) {
        size_t at = pages->functions[i], word = pages->table + i * sizeof(uintptr_t);
        if (at)
            arch_write_jump_through(copy + at - pages->start, (int64_t)word - (int64_t)at);
    }
    int descriptor = publish(core, pages, copy);
    free(copy);
    return descriptor;
}
