/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm.c: a task writes down the state in which ld.so hands over to its program; see warm.h.
 *
 * It is asked for by task_block->start.warm and done from the first of all constructors, when ld.so has
 * mapped and relocated everything, and nothing else of the program or its libraries has run.  What
 * cannot be written down in full is not published, and the window is an ordinary one.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "task.h"
#include "warm_state.h"

#define WEAK __attribute__((weak))
#define REGIONS 32  /* of pages, that are asked for at once */
#define SETTLED_S 2 /* of a file that was changed just now another change may have the same time */

extern unsigned long getauxval(unsigned long type);

/* glibc's, from 2.35 on. */
extern WEAK const ptrdiff_t __rseq_offset;
extern WEAK const unsigned __rseq_size;

struct capture {
    const struct task_block *block;
    struct warm *warm;
    int maps, pagemap;
    size_t names_used;
};

static void copy(void *to, const void *from, size_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* ---- Files ------------------------------------------------------------------------------------ */

/* A file by what stat tells of it now.  False when there is no room, or it was changed just now. */
static bool add_file(struct capture *capture, const char *path, bool must_be_there)
{
    struct warm *warm = capture->warm;
    int64_t now[2];

    if (warm->file_count == WARM_FILES)
        return false;
    struct warm_file *file = &warm->files[warm->file_count++];
    file->path = path;
    long result = sys2(SYS_stat, (long)(uintptr_t)path, (long)(uintptr_t)&file->status);
    if (result < 0 && !must_be_there) {
        file->status.st_ino = 0;
        return result == -ENOENT;
    }
    sys2(SYS_clock_gettime, 0 /* REALTIME */, (long)(uintptr_t)now);
    return result == 0 && now[0] - file->status.st_ctim.tv_sec >= SETTLED_S;
}

/* ---- Objects, and where they were looked for ------------------------------------------------------------ */

static size_t length_of(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    return length;
}

static bool begins(const char *text, const char *with)
{
    while (*with)
        if (*text++ != *with++)
            return false;
    return true;
}

/* Put bytes behind what there is of a name; NULL when there is no room. */
static char *append(struct capture *capture, const char *bytes, size_t count)
{
    char *place = capture->warm->names + capture->names_used;

    if (count > WARM_NAMES - capture->names_used)
        return NULL;
    copy(place, bytes, count);
    capture->names_used += count;
    return place;
}

/* The bytes of an object's path up to its last slash. */
static size_t folder_of(const char *path)
{
    size_t bytes = 0;

    for (size_t i = 0; path[i]; i++)
        if (path[i] == '/')
            bytes = i;
    return bytes;
}

/* One folder, and that it has no others within for certain processors.  What is put into it changes its
 * time; a file in it that is replaced is known by itself. */
static bool add_folder(struct capture *capture, const char *path, size_t bytes, const char *object)
{
    static const char *const origins[] = {"$ORIGIN", "${ORIGIN}"};
    static const char within[] = "/glibc-hwcaps";
    const char *folders[2] = {NULL, NULL};
    size_t skip = 0;

    for (size_t i = 0; i < 2 && !skip; i++)
        if (begins(path, origins[i]))
            skip = length_of(origins[i]);
    for (size_t i = skip; i < bytes; i++)
        if (path[i] == '$')
            return false; /* another token: ld.so's to know */
    if (!skip && (bytes == 0 || path[0] != '/'))
        return false; /* of the working directory */
    object = *object ? object : capture->block->start.program;
    for (size_t i = 0; i < 2; i++) {
        folders[i] = capture->warm->names + capture->names_used;
        if ((skip && !append(capture, object, folder_of(object))) ||
            !append(capture, path + skip, bytes - skip) ||
            (i == 1 && !append(capture, within, sizeof within - 1)) || !append(capture, "", 1))
            return false;
    }
    return add_file(capture, folders[0], false) && add_file(capture, folders[1], false) &&
           capture->warm->files[capture->warm->file_count - 1].status.st_ino == 0;
}

/* By the name under which it was found, which may be a link. */
static bool add_object(void *argument, const char *name)
{
    struct capture *capture = argument;

    name = *name ? name : capture->block->start.program;
    if (name[0] != '/')
        return true; /* the kernel's own */
    const char *kept = append(capture, name, length_of(name) + 1);
    return kept && add_file(capture, kept, true);
}

static bool add_search_path(void *argument, const char *path, const char *object)
{
    for (const char *at = path; at;) {
        size_t bytes = 0;
        while (at[bytes] && at[bytes] != ':')
            bytes++;
        if (!add_folder(argument, at, bytes, object))
            return false;
        at = at[bytes] ? at + bytes + 1 : NULL;
    }
    return true;
}

/* ---- Mappings --------------------------------------------------------------------------------- */

/* ld.so is known by its image. */
static bool is_of_loader(const struct capture *capture, uintptr_t address)
{
    return address >= capture->block->window_first && address < capture->block->spare_end;
}

static bool add_range(struct capture *capture, const struct kernel_procmap_query *query)
{
    struct warm *warm = capture->warm;
    const uint64_t both = KERNEL_PROCMAP_WRITABLE | KERNEL_PROCMAP_EXECUTABLE;

    if (warm->range_count == WARM_RANGES || query->vma_flags & KERNEL_PROCMAP_SHARED ||
        (query->vma_flags & both) == both)
        return false;
    warm->ranges[warm->range_count++] = (struct warm_range){
        .start = query->vma_start,
        .end = query->vma_end,
        .rights = query->vma_flags,
        .offset = query->vma_offset,
        .inode = query->inode,
        .major = query->dev_major,
        .minor = query->dev_minor,
    };
    return true;
}

static bool take_ranges(struct capture *capture)
{
    const struct task_block *block = capture->block;
    struct warm *warm = capture->warm;

    for (uintptr_t at = block->window_start;;) {
        struct kernel_procmap_query query = {
            .size = sizeof query,
            .query_flags = KERNEL_PROCMAP_COVERING_OR_NEXT,
            .query_addr = at,
        };
        long result =
            sys3(SYS_ioctl, capture->maps, (long)KERNEL_PROCMAP_QUERY, (long)(uintptr_t)&query);
        if (result == -ENOENT || (result == 0 && query.vma_start >= block->window_end))
            return warm->range_count > 0;
        if (result < 0 || !add_range(capture, &query))
            return false;
        at = query.vma_end;
    }
}

/* ---- Pages ------------------------------------------------------------------------------------ */

static bool is_zero(const uint64_t *words)
{
    for (size_t i = 0; i < ARCH_PAGE / sizeof *words; i++)
        if (words[i])
            return false;
    return true;
}

static bool add_page(struct warm *warm, uintptr_t address, enum warm_kind kind)
{
    uint8_t *contents = NULL;

    if (warm->page_count == WARM_PAGES)
        return false;
    if (!is_zero((const uint64_t *)address)) {
        contents = warm->contents[warm->contents_count++];
        copy(contents, (const void *)address, ARCH_PAGE);
    }
    warm->pages[warm->page_count++] = (struct warm_page){address, contents, kind};
    return true;
}

static const struct warm_range *range_of(const struct warm *warm, uintptr_t address)
{
    for (size_t i = 0; i < warm->range_count; i++)
        if (address >= warm->ranges[i].start && address < warm->ranges[i].end)
            return &warm->ranges[i];
    return NULL;
}

static bool is_stack(const struct capture *capture, const struct warm_range *range)
{
    return range_of(capture->warm, (uintptr_t)capture->block) == range;
}

/* Pages in a row that are no longer those of their file. */
static bool add_written(struct capture *capture, uintptr_t start, uintptr_t end)
{
    struct warm *warm = capture->warm;
    const struct warm_range *range = NULL;
    uintptr_t arguments = warm->stack & -ARCH_PAGE;

    for (uintptr_t at = start; at < end; at += ARCH_PAGE) {
        range = range && at < range->end ? range : range_of(warm, at);
        if (!range || !(range->rights & KERNEL_PROCMAP_READABLE))
            return false;
        /* Of the stack what was built before the start. */
        if (is_stack(capture, range) && (at < arguments || at >= (uintptr_t)capture->block))
            continue;
        if (!add_page(warm, at,
                      range->rights & KERNEL_PROCMAP_WRITABLE ? WARM_WRITTEN : WARM_FIXED))
            return false;
    }
    return true;
}

/* Pages of files that may be written to and were not: a task may do so. */
static bool add_unwritten(struct capture *capture, uintptr_t *from, uintptr_t to)
{
    struct warm *warm = capture->warm;

    for (size_t i = 0; i < warm->range_count && warm->ranges[i].start < to; i++) {
        const struct warm_range *range = &warm->ranges[i];
        if (!range->inode || !(range->rights & KERNEL_PROCMAP_WRITABLE))
            continue;
        uintptr_t at = range->start > *from ? range->start : *from;
        for (; at < range->end && at < to; at += ARCH_PAGE)
            if (!add_page(warm, at, WARM_CLEAN))
                return false;
    }
    *from = to;
    return true;
}

/* All by address: what lies between two rows of written pages comes before the latter. */
static bool take_pages(struct capture *capture)
{
    const struct task_block *block = capture->block;
    struct kernel_page_region regions[REGIONS];
    uintptr_t from = block->window_start;

    for (uintptr_t at = block->window_start; at < block->window_end;) {
        struct kernel_pagemap_scan scan =
            warm_written_pages(at, block->window_end, regions, REGIONS);
        long count =
            sys3(SYS_ioctl, capture->pagemap, (long)KERNEL_PAGEMAP_SCAN, (long)(uintptr_t)&scan);
        if (count < 0 || scan.walk_end <= at)
            return false;
        for (long i = 0; i < count; i++) {
            if (regions[i].categories & KERNEL_PAGE_SWAPPED ||
                !add_unwritten(capture, &from, regions[i].start) ||
                !add_written(capture, regions[i].start, regions[i].end))
                return false;
            from = regions[i].end;
        }
        at = scan.walk_end;
    }
    return add_unwritten(capture, &from, block->window_end);
}

/* ---- The process ------------------------------------------------------------------------------ */

/* What the kernel was told of this thread, and the next task's has to be told again. */
static bool take_thread(struct capture *capture)
{
    struct warm *warm = capture->warm;
    const uint64_t *random = (const uint64_t *)getauxval(AT_RANDOM);
    long pid = sys0(SYS_getpid);

    warm->thread = arch_thread();
    if (!warm->thread || !random ||
        *(const uint64_t *)(warm->thread + ARCH_STACK_GUARD) !=
            (random[0] & ARCH_STACK_GUARD_MASK) ||
        *(const uint64_t *)(warm->thread + ARCH_POINTER_GUARD) != random[1])
        return false;
    if (sys2(SYS_prctl, KERNEL_PR_GET_TID_ADDRESS, (long)(uintptr_t)&warm->thread_id) < 0 ||
        !warm->thread_id || *warm->thread_id != pid ||
        sys3(SYS_get_robust_list, 0, (long)(uintptr_t)&warm->robust_list,
             (long)(uintptr_t)&warm->robust_bytes) < 0)
        return false;
    if (&__rseq_size && __rseq_size > KERNEL_RSEQ_BYTES)
        return false;
    if (&__rseq_size && __rseq_size)
        warm->rseq = warm->thread + (uintptr_t)__rseq_offset;
    return true;
}

/* ld.so was started at start.stack and has moved the program's arguments there; it has put what is the
 * program's into the auxiliary vector. */
static bool take_arguments(struct capture *capture)
{
    struct warm *warm = capture->warm;
    const struct task_start *start = &capture->block->start;
    const uintptr_t *words = (const uintptr_t *)start->stack;

    words += 1 + *words;
    if (*words++)
        return false;
    while (*words++)
        ;
    warm->stack = start->stack;
    warm->auxv = (const uint64_t (*)[2])words;
    while (warm->auxv[warm->auxv_count++][0] != AT_NULL)
        ;
    warm->entry = getauxval(AT_ENTRY);
    warm->loaded = start->program;
    warm->executable = start->executable;
    warm->cursor = atomic_load(&capture->block->slot->cursor);
    warm->spare = atomic_load(&capture->block->slot->spare);
    return (const uint64_t *)getauxval(AT_RANDOM) > (const uint64_t *)warm->auxv;
}

static bool is_code(const struct capture *capture, uintptr_t address)
{
    const struct warm_range *range = range_of(capture->warm, address);

    return range && range->rights & KERNEL_PROCMAP_EXECUTABLE && !is_of_loader(capture, address);
}

static bool take_all(struct capture *capture)
{
    return take_thread(capture) && take_arguments(capture) && take_ranges(capture) &&
           is_code(capture, capture->warm->entry) && add_file(capture, "/etc/ld.so.cache", true) &&
           add_file(capture, "/etc/ld.so.preload", false) &&
           symbols_visit_objects(add_object, add_search_path, capture) && take_pages(capture);
}

static int open_file(const char *path)
{
    return (int)sys3(SYS_open, (long)(uintptr_t)path, O_RDONLY | O_CLOEXEC, 0);
}

static void close_file(int descriptor)
{
    if (descriptor >= 0)
        sys1(SYS_close, descriptor);
}

void task_capture(const struct task_block *block)
{
    struct capture capture = {.block = block,
                              .warm = block->start.warm,
                              .maps = open_file("/proc/self/maps"),
                              .pagemap = open_file("/proc/self/pagemap")};
    bool taken = capture.maps >= 0 && capture.pagemap >= 0 && take_all(&capture);

    close_file(capture.maps);
    close_file(capture.pagemap);
    if (taken)
        atomic_store_explicit(&capture.warm->complete, 1, memory_order_release);
}
