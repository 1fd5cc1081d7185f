/* SPDX-License-Identifier: BSD-2-Clause
 *
 * image.c: see image.h.
 *
 * ld.so maps libraries before any library of ours can run, and a task may be killed right then.  So
 * the copy from which tasks map their ld.so is prepared: the system calls for mmap in its text are
 * led to the ledger.  They are found by their bytes; the trampolines stand in the padding behind
 * the text.  Where that cannot be done (no memfd, no padding, other code) the file itself is mapped,
 * the task works as well, and what it has mapped when it is killed while loading is lost.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "elf_file.h"
#include "seed.h"

#define IMAGE_MAX (64UL << 20) /* of the file, and of its memory */
#define ISLAND_ALIGNMENT 16
#define SPARE_BYTES (64UL << 10)

/* ---- Reading ---------------------------------------------------------------------------------- */

static int protection_of(uint32_t flags)
{
    return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) |
           (flags & PF_X ? PROT_EXEC : 0);
}

/* Take the segments over; read-only neighbours that lie alike in file and memory become one mapping,
 * executable if one of them is: a mapping saved is saved in every task. */
static int take_segments(struct image *image, const struct elf_file *elf)
{
    for (int i = 0; i < elf->header.e_phnum; i++) {
        const Elf64_Phdr *load = &elf->segments[i];
        if (load->p_type != PT_LOAD)
            continue;
        struct image_segment *last =
            image->segment_count ? &image->segments[image->segment_count - 1] : NULL;
        size_t start = load->p_vaddr & -ARCH_PAGE;
        size_t end = align_up(load->p_vaddr + load->p_memsz, ARCH_PAGE);
        off_t offset = (off_t)(load->p_offset & -ARCH_PAGE);
        int protection = protection_of(load->p_flags);
        if ((last && start < last->end) || end > IMAGE_MAX)
            return -ENOEXEC;
        if (last && start == last->end && !((protection | last->protection) & PROT_WRITE) &&
            offset - last->offset == (off_t)(start - last->start)) {
            last->end = end;
            last->file_end = load->p_vaddr + load->p_filesz;
            last->protection |= protection;
        } else {
            if (image->segment_count == IMAGE_SEGMENTS)
                return -ENOEXEC;
            image->segments[image->segment_count++] = (struct image_segment){
                start, end, offset, load->p_vaddr + load->p_filesz, protection};
        }
        image->bytes = end;
        image->variables_end = load->p_vaddr + load->p_memsz;
        if (load->p_offset <= elf->header.e_phoff &&
            elf->header.e_phoff < load->p_offset + load->p_filesz)
            image->headers = elf->header.e_phoff - load->p_offset + load->p_vaddr;
    }
    image->entry = elf->header.e_entry;
    image->header_count = elf->header.e_phnum;
    return image->segments[0].start == 0 && image->headers && image->entry < image->bytes
               ? 0
               : -ENOEXEC;
}

/* Only where its code is as we know it. */
static void find_resume(int file, struct image *image)
{
    uint8_t code[16];

    for (int i = 0; i < image->segment_count; i++) {
        const struct image_segment *segment = &image->segments[i];
        if (image->entry >= segment->start && image->entry < segment->file_end &&
            pread(file, code, sizeof code,
                  segment->offset + (off_t)(image->entry - segment->start)) == sizeof code &&
            arch_loader_resumes(code, sizeof code))
            image->resume = image->entry + ARCH_LOADER_RESUME;
    }
}

/* ---- Preparing -------------------------------------------------------------------------------- */

/* The next site at or after `from`, and its bytes; `to` when there is none. */
static size_t find_site(const uint8_t *bytes, size_t from, size_t to, size_t *site_bytes)
{
    for (; from < to; from++)
        if ((*site_bytes = arch_mmap_site(bytes + from, to - from)) > 0)
            return from;
    return to;
}

/* Lead every mmap call of one text segment to the ledger; the number of sites, 0 when there is no
 * room for all of them. */
static int patch_text(uint8_t *bytes, const Elf64_Phdr *text, size_t file_bytes)
{
    size_t start = text->p_offset, end = start + text->p_filesz;
    size_t island = align_up(end, ISLAND_ALIGNMENT), room = align_up(end, ARCH_PAGE), length;
    int sites = 0;

    if (room > file_bytes)
        return 0;
    for (size_t at = start; (at = find_site(bytes, at, end, &length)) < end; at += length)
        sites++;
    if (island + (size_t)sites * align_up(ARCH_TRAMPOLINE_MAX, ISLAND_ALIGNMENT) > room)
        return 0;
    for (size_t i = end; i < room; i++)
        if (bytes[i])
            return 0; /* not padding */
    for (size_t at = start; (at = find_site(bytes, at, end, &length)) < end; at += length) {
        arch_patch_mmap_site(bytes, at, length, island);
        island += align_up(ARCH_TRAMPOLINE_MAX, ISLAND_ALIGNMENT);
    }
    return sites;
}

/* The last segment, if it can be followed by zero pages in the copy; else NULL. */
static struct image_segment *data_segment(struct image *image)
{
    struct image_segment *last = &image->segments[image->segment_count - 1];

    return last->protection & PROT_WRITE ? last : NULL;
}

/* Write the copy, its data followed by zero pages: .bss, and spare ones for ld.so's first allocator,
 * which takes the rest of the last page too.  The sections that stood there nobody reads. */
static int write_copy(struct image *image, struct image_segment *data, int descriptor,
                      uint8_t *copy, size_t bytes)
{
    uint8_t *start = copy + data->offset - data->start;
    size_t end = data->end + SPARE_BYTES;

    memset(start + data->file_end, 0, end - data->file_end);
    int result = descriptor_write(descriptor, copy, bytes);
    if (result < 0)
        return result;
    image->spare = data->end;
    image->bytes = data->end = data->file_end = end;
    return 0;
}

/* A prepared copy: its descriptor, or -errno when the file itself must do. */
static int prepare(struct image *image, int file, const struct elf_file *elf, const char *path)
{
    struct image_segment *data = data_segment(image);
    size_t bytes = align_up(elf->bytes, ARCH_PAGE);
    size_t data_end = data ? (size_t)data->offset + data->end - data->start + SPARE_BYTES : 0;
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    bytes = bytes < data_end ? data_end : bytes;
    uint8_t *copy = data ? calloc(1, bytes) : NULL;
    int sites = 0, descriptor = -ENOEXEC;

    if (!copy)
        return -ENOEXEC;
    if (pread(file, copy, elf->bytes, 0) == (ssize_t)elf->bytes)
        for (int i = 0; i < elf->header.e_phnum; i++)
            if (elf->segments[i].p_type == PT_LOAD && elf->segments[i].p_flags & PF_X)
                sites += patch_text(copy, &elf->segments[i], elf->bytes);
    if (sites > 0)
        descriptor = descriptor_take(memfd_create(name, MFD_CLOEXEC));
    if (descriptor >= 0) {
        int result = write_copy(image, data, descriptor, copy, bytes);
        if (result < 0) {
            close(descriptor);
            descriptor = result;
        }
    }
    free(copy);
    return descriptor;
}

static int read_image(int file, const struct stat *status, const char *path, struct image *image,
                      struct program_error *error)
{
    struct elf_file elf;

    if ((uint64_t)status->st_size > IMAGE_MAX)
        return program_fail(error, AIOPIP_FAILED_INTERPRETER, EFBIG, "%s", path);
    int result = elf_read(file, (uint64_t)status->st_size, path, &elf, error);
    if (result == 0 && elf.header.e_type == ET_EXEC)
        result = program_fail(error, AIOPIP_FAILED_NOT_PIE, ENOEXEC, "%s", path);
    if (result == 0 && (result = take_segments(image, &elf)) < 0)
        result = program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: segments", path);
    if (result < 0)
        return result;
    image->path = strdup(path);
    if (!image->path)
        return program_fail(error, AIOPIP_FAILED_MEMORY, ENOMEM, "%s", path);
    image->device = status->st_dev;
    image->inode = status->st_ino;
    image->changed = status->st_mtim;
    image->spare = image->bytes;
    seed_find_features(file, image);
    find_resume(file, image);
    image->descriptor = prepare(image, file, &elf, path);
    image->tracked = image->descriptor >= 0;
    if (!image->tracked && (image->descriptor = fcntl(file, F_DUPFD_CLOEXEC, 3)) < 0)
        return program_fail(error, AIOPIP_FAILED_WATCH, errno, "%s", path);
    return 0;
}

/* ---- The list --------------------------------------------------------------------------------- */

static void image_free(struct image *image)
{
    if (image->descriptor >= 0)
        close(image->descriptor);
    free(image->path);
    free(image);
}

void image_free_all(struct image *list)
{
    while (list) {
        struct image *next = list->next;
        image_free(list);
        list = next;
    }
}

/* By what stat tells of the path now: an upgrade of libc puts another file there. */
int image_find(struct image **list, const char *path, struct image **found,
               struct program_error *error)
{
    struct stat status;

    if (path[0] != '/' || stat(path, &status) < 0)
        return program_fail(error, AIOPIP_FAILED_INTERPRETER, path[0] == '/' ? errno : ENOENT, "%s",
                            path);
    for (struct image *at = *list; at; at = at->next)
        if (at->inode == status.st_ino && at->device == status.st_dev &&
            at->changed.tv_sec == status.st_mtim.tv_sec &&
            at->changed.tv_nsec == status.st_mtim.tv_nsec && strcmp(at->path, path) == 0) {
            *found = at;
            return 0;
        }
    if (!S_ISREG(status.st_mode)) /* to open a device may have effects */
        return program_fail(error, AIOPIP_FAILED_INTERPRETER, EACCES, "%s", path);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return program_fail(error, AIOPIP_FAILED_INTERPRETER, errno, "%s", path);
    struct image *image = calloc(1, sizeof *image);
    if (!image) {
        close(file);
        return program_fail(error, AIOPIP_FAILED_MEMORY, ENOMEM, "%s", path);
    }
    image->descriptor = -1;
    int result = fstat(file, &status) < 0
                     ? program_fail(error, AIOPIP_FAILED_INTERPRETER, errno, "%s", path)
                     : read_image(file, &status, path, image, error);
    close(file);
    if (result < 0) {
        image_free(image);
        return result;
    }
    image->next = *list;
    *list = *found = image;
    return 0;
}

/* ---- Mapping ---------------------------------------------------------------------------------- */

static int map_segment(const struct image *image, const struct image_segment *segment, uintptr_t at)
{
    size_t file_pages = align_up(segment->file_end, ARCH_PAGE);
    const int flags = MAP_PRIVATE | KERNEL_MAP_FIXED_NOREPLACE;

    if (file_pages > segment->start &&
        mmap((void *)(at + segment->start), file_pages - segment->start, segment->protection, flags,
             image->descriptor, segment->offset) == MAP_FAILED)
        return -errno;
    if (segment->end > file_pages &&
        mmap((void *)(at + file_pages), segment->end - file_pages, segment->protection,
             flags | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        return -errno;
    if (!image->tracked && segment->protection & PROT_WRITE)
        memset((void *)(at + segment->file_end), 0, file_pages - segment->file_end);
    return 0;
}

int image_map(const struct image *image, uintptr_t at)
{
    for (int i = 0; i < image->segment_count; i++) {
        int result = map_segment(image, &image->segments[i], at);
        if (result < 0)
            return result;
    }
    return 0;
}
