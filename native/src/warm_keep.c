/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm_keep.c: putting the window of a task that has ended back into the state in which ld.so handed it
 * over.
 *
 * What was mapped besides is unmapped; what ld.so had mapped must be there as it was; pages that may be
 * written to get their contents back; and all others are compared, if they are no longer those of a file.
 * All of that the kernel is asked, nothing is believed of the task.  Where it comes out otherwise the window is unmapped, whatever
 * has been put back by then.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core.h"
#include "warm.h"

#define STACK_KEPT (32UL << 10) /* of a stack, below the arguments, stays mapped, and is zeroed */
#define ZEROED_MAX 1024         /* pages: a task that has written to more variables is unmapped */
#define REGIONS 64
#define ROW 16 /* pages */

/* The reaper's way through a window. */
struct way {
    const struct warm *warm;
    uintptr_t start, end; /* the window */
    int maps, pagemap;
};

static bool is_same_mapping(const struct kernel_procmap_query *found,
                            const struct warm_range *range, uintptr_t at)
{
    return found->vma_flags == range->rights && found->inode == range->inode &&
           found->dev_major == range->major && found->dev_minor == range->minor &&
           (!range->inode ||
            found->vma_offset + (at - found->vma_start) == range->offset + (at - range->start));
}

/* Unmap what ld.so had not mapped, and see that what it had is there as it was.  Neighbours that are
 * alike are one mapping to the kernel. */
static bool put_mappings_back(const struct way *way)
{
    const uint64_t lent = KERNEL_PROCMAP_SHARED | KERNEL_PROCMAP_WRITABLE;
    const struct warm_range *range = way->warm->ranges, *last = range + way->warm->range_count;
    uintptr_t there = range->start; /* so far */

    for (uintptr_t at = way->start;;) {
        struct kernel_procmap_query found = {
            .size = sizeof found, .query_flags = KERNEL_PROCMAP_COVERING_OR_NEXT, .query_addr = at};
        int result = ioctl(way->maps, KERNEL_PROCMAP_QUERY, &found) < 0 ? -errno : 0;
        if (result == -ENOENT || (result == 0 && found.vma_start >= way->end))
            return range == last;
        if (result < 0)
            return false;
        /* Behind the last window's end, or before this one's start, it may be somebody else's. */
        uintptr_t found_end = found.vma_end < way->end ? found.vma_end : way->end;
        for (at = found.vma_start > way->start ? found.vma_start : way->start; at < found_end;) {
            if (range == last || at < range->start) {
                uintptr_t end =
                    range == last || found_end < range->start ? found_end : range->start;
                /* By rings in such memory (io_uring) the kernel may have been told to write somewhere. */
                if ((found.vma_flags & lent) == lent || munmap((void *)at, end - at) < 0)
                    return false;
                at = end;
                continue;
            }
            if (at != there || !is_same_mapping(&found, range, at))
                return false;
            at = there = found_end < range->end ? found_end : range->end;
            if (there == range->end && ++range < last)
                there = range->start;
        }
    }
}

/* ---- Pages ------------------------------------------------------------------------------------ */

/* Pages that are to be written to, or compared.  By system calls, in rows: what a task has done to a page
 * may make a store to it, or a load, end this process (guard markers, protection keys, an error of the
 * disk), where the kernel says EFAULT. */
struct row {
    struct iovec here[ROW], there[ROW];
    const uint8_t *contents[ROW];
    size_t count;
};

static const uint8_t zeros[ARCH_PAGE];

static bool write_row(struct row *row)
{
    ssize_t bytes = (ssize_t)(row->count * ARCH_PAGE);
    bool written = bytes == 0 || process_vm_writev(getpid(), row->here, row->count, row->there,
                                                   row->count, 0) == bytes;

    row->count = 0;
    return written;
}

static bool compare_row(struct row *row)
{
    uint8_t pages[ROW][ARCH_PAGE];
    ssize_t bytes = (ssize_t)(row->count * ARCH_PAGE);
    size_t count = row->count;

    row->count = 0;
    for (size_t i = 0; i < count; i++)
        row->here[i].iov_base = pages[i];
    if (bytes > 0 && process_vm_readv(getpid(), row->here, count, row->there, count, 0) != bytes)
        return false;
    for (size_t i = 0; i < count; i++)
        if (memcmp(pages[i], row->contents[i], ARCH_PAGE) != 0)
            return false;
    return true;
}

static bool add_to_row(struct row *row, uintptr_t address, const uint8_t *contents,
                       bool (*end)(struct row *))
{
    contents = contents ? contents : zeros;
    row->contents[row->count] = contents;
    row->here[row->count] = (struct iovec){(void *)contents, ARCH_PAGE};
    row->there[row->count] = (struct iovec){(void *)address, ARCH_PAGE};
    return ++row->count < ROW || end(row);
}

/* Where a walk over pages, all by address, has come to. */
struct place {
    size_t range, page, zeroed;
    uintptr_t stack_end; /* of what was written to of the stack and is not kept */
    struct row writes, comparisons;
};

static bool put_page_back(struct place *place, const struct warm_page *page)
{
    if (page->kind == WARM_FIXED)
        return add_to_row(&place->comparisons, page->address, page->contents, compare_row);
    return add_to_row(&place->writes, page->address, page->contents, write_row);
}

/* Pages below `until` that were the task's own when they were written down and are not now: it has had the
 * kernel drop them. */
static bool pass_pages(const struct warm *warm, struct place *place, uintptr_t until)
{
    for (; place->page < warm->page_count && warm->pages[place->page].address < until;
         place->page++) {
        const struct warm_page *page = &warm->pages[place->page];
        if (page->kind == WARM_FIXED)
            return false;
        if (page->kind == WARM_WRITTEN && !put_page_back(place, page))
            return false;
    }
    return true;
}

/* A page that is not that of its file, nor zero. */
static bool put_back(const struct way *way, struct place *place, uintptr_t at)
{
    const struct warm *warm = way->warm;

    while (place->range < warm->range_count && warm->ranges[place->range].end <= at)
        place->range++;
    const struct warm_range *range = &warm->ranges[place->range];
    if (place->range == warm->range_count || at < range->start || !pass_pages(warm, place, at))
        return false;
    if (place->page < warm->page_count && warm->pages[place->page].address == at)
        return put_page_back(place, &warm->pages[place->page++]);
    if (!(range->rights & KERNEL_PROCMAP_WRITABLE))
        return false;
    if (warm->stack >= range->start && warm->stack < range->end) {
        uintptr_t arguments = warm->stack & -ARCH_PAGE;
        if (at >= arguments)
            return true; /* the block, which the spawner writes anew */
        if (at >= arguments - STACK_KEPT)
            return add_to_row(&place->writes, at, NULL, write_row);
        place->stack_end = at + ARCH_PAGE;
        return true;
    }
    return !range->inode && ++place->zeroed <= ZEROED_MAX &&
           add_to_row(&place->writes, at, NULL, write_row);
}

static bool put_pages_back(const struct way *way)
{
    struct kernel_page_region regions[REGIONS];
    struct place place = {0};

    for (uintptr_t from = way->start; from < way->end;) {
        struct kernel_pagemap_scan scan = warm_written_pages(from, way->end, regions, REGIONS);
        int count = ioctl(way->pagemap, KERNEL_PAGEMAP_SCAN, &scan);
        if (count < 0 || scan.walk_end <= from)
            return false;
        for (int i = 0; i < count; i++)
            for (uintptr_t at = regions[i].start; at < regions[i].end; at += ARCH_PAGE)
                if (regions[i].categories & KERNEL_PAGE_SWAPPED || !put_back(way, &place, at))
                    return false;
        from = scan.walk_end;
    }
    if (!pass_pages(way->warm, &place, way->end) || !write_row(&place.writes) ||
        !compare_row(&place.comparisons))
        return false;
    uintptr_t stack = way->start + SHARED_GAP;
    return place.stack_end == 0 ||
           madvise((void *)stack, place.stack_end - stack, MADV_DONTNEED) == 0;
}

/* ---- The window ------------------------------------------------------------------------------- */

/* What is not in the window alone is given back as ever; and pages that the kernel may read from still
 * must not be written to. */
static bool stays_within(const struct slot *slot)
{
    const struct task_block *block = slot->block;

    if (atomic_load(&block->lends))
        return false;
    for (int i = 0; i < SHARED_OUTSIDE; i++)
        if (atomic_load(&block->outside[i].end))
            return false;
    for (int i = 0; i < SHARED_AIO; i++)
        if (atomic_load(&block->aio[i]))
            return false;
    for (int i = 0; i < SHARED_EXTENTS; i++)
        if (atomic_load(&slot->extents[i].start))
            return false;
    return true;
}

static int open_once(int *descriptor, const char *path)
{
    if (*descriptor < 0)
        *descriptor = descriptor_take(open(path, O_RDONLY | O_CLOEXEC));
    return *descriptor;
}

static bool keep(struct core *core, struct slot *slot, const struct warm *warm)
{
    if (!stays_within(slot))
        return false;
    const struct way way = {
        .warm = warm,
        .start = slot->block->window_start,
        .end = slot->block->window_end,
        .maps = open_once(&core->reaper_maps, "/proc/self/maps"),
        .pagemap = open_once(&core->reaper_pagemap, "/proc/self/pagemap"),
    };
    return way.maps >= 0 && way.pagemap >= 0 && put_mappings_back(&way) && put_pages_back(&way);
}

bool warm_keep(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    const struct warm *warm = warm_of(core, pipid);

    if (!warm || !atomic_load_explicit(&warm->complete, memory_order_acquire) ||
        core->warm_use == WARM_OFF)
        return false;
    bool kept = keep(core, slot, warm);
    warm_note_kept(core, &core->tasks[pipid], kept);
    if (!kept)
        return false;
    slot->block = NULL;
    core->warm_kept_ns = core_now_ns();
    return true;
}
