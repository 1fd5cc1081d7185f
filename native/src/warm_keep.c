/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm_keep.c: putting the window of a task that has ended back into the state in which ld.so handed it
 * over.
 *
 * What was mapped besides is unmapped; what ld.so had mapped must be there as it was; pages that may be
 * written to get their contents back; and no other page may have been written to.  All of that the kernel
 * is asked, nothing is believed of the task.  Where it comes out otherwise the window is unmapped, whatever
 * has been put back by then.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core.h"
#include "warm.h"

#define STACK_KEPT (32UL << 10) /* of a stack, below the arguments, stays mapped, and is zeroed */
#define ZEROED_MAX 1024         /* pages: a task that has written to more variables is unmapped */
#define REGIONS 64

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
        for (at = found.vma_start; at < found.vma_end;) {
            if (range == last || at < range->start) {
                uintptr_t end =
                    range == last || found.vma_end < range->start ? found.vma_end : range->start;
                /* By rings in such memory (io_uring) the kernel may have been told to write somewhere. */
                if ((found.vma_flags & lent) == lent || munmap((void *)at, end - at) < 0)
                    return false;
                at = end;
                continue;
            }
            if (at != there || !is_same_mapping(&found, range, at))
                return false;
            at = there = found.vma_end < range->end ? found.vma_end : range->end;
            if (there == range->end && ++range < last)
                there = range->start;
        }
    }
}

/* Where a walk over pages, all by address, has come to. */
struct place {
    size_t range, page, fixed;
    size_t fixed_bytes, zeroed;
    uintptr_t stack_end; /* of what was written to of the stack and is not kept */
};

static void put_page_back(const struct warm_page *page)
{
    if (page->contents)
        memcpy((void *)page->address, page->contents, ARCH_PAGE);
    else
        memset((void *)page->address, 0, ARCH_PAGE);
}

/* Pages below `until` that were written to when they were captured and are not now: the task has had
 * the kernel drop them. */
static void pass_pages(const struct warm *warm, struct place *place, uintptr_t until)
{
    for (; place->page < warm->page_count && warm->pages[place->page].address < until;
         place->page++)
        if (warm->pages[place->page].written)
            put_page_back(&warm->pages[place->page]);
}

static bool is_fixed(const struct warm *warm, struct place *place, uintptr_t at)
{
    while (place->fixed < warm->fixed_count && warm->fixed[place->fixed].end <= at)
        place->fixed++;
    place->fixed_bytes += ARCH_PAGE;
    return place->fixed < warm->fixed_count && warm->fixed[place->fixed].start <= at;
}

/* A page that is not that of its file, nor zero. */
static bool put_back(const struct way *way, struct place *place, uintptr_t at)
{
    const struct warm *warm = way->warm;

    while (place->range < warm->range_count && warm->ranges[place->range].end <= at)
        place->range++;
    const struct warm_range *range = &warm->ranges[place->range];
    if (place->range == warm->range_count || at < range->start)
        return false;
    if (!(range->rights & KERNEL_PROCMAP_WRITABLE))
        return is_fixed(warm, place, at);
    pass_pages(warm, place, at);
    if (place->page < warm->page_count && warm->pages[place->page].address == at) {
        put_page_back(&warm->pages[place->page++]);
    } else if (warm->stack >= range->start && warm->stack < range->end) {
        uintptr_t arguments = warm->stack & -ARCH_PAGE;
        if (at < arguments - STACK_KEPT)
            place->stack_end = at + ARCH_PAGE;
        else if (at < arguments)
            memset((void *)at, 0, ARCH_PAGE);
    } else if (range->inode || ++place->zeroed > ZEROED_MAX) {
        return false;
    } else {
        memset((void *)at, 0, ARCH_PAGE);
    }
    return true;
}

static bool put_pages_back(const struct way *way)
{
    const struct warm *warm = way->warm;
    struct kernel_page_region regions[REGIONS];
    struct place place = {0};
    size_t fixed_bytes = 0;

    for (uintptr_t from = way->start; from < way->end;) {
        struct kernel_pagemap_scan scan = warm_written_pages(from, way->end, regions, REGIONS);
        int count = ioctl(way->pagemap, KERNEL_PAGEMAP_SCAN, &scan);
        if (count < 0 || scan.walk_end <= from)
            return false;
        for (int i = 0; i < count; i++)
            for (uintptr_t at = regions[i].start; at < regions[i].end; at += ARCH_PAGE)
                if (!put_back(way, &place, at))
                    return false;
        from = scan.walk_end;
    }
    pass_pages(warm, &place, way->end);
    for (size_t i = 0; i < warm->fixed_count; i++)
        fixed_bytes += warm->fixed[i].end - warm->fixed[i].start;
    if (place.fixed_bytes != fixed_bytes)
        return false;
    uintptr_t stack = way->start + SHARED_GAP;
    return place.stack_end == 0 ||
           madvise((void *)stack, place.stack_end - stack, MADV_DONTNEED) == 0;
}

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

bool warm_keep(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    const struct warm *warm = warm_of(core, pipid);

    if (!warm || !atomic_load_explicit(&warm->complete, memory_order_acquire) ||
        core->warm_use == WARM_OFF || !stays_within(slot))
        return false;
    const struct way way = {
        .warm = warm,
        .start = slot->block->window_start,
        .end = slot->block->window_end,
        .maps = open_once(&core->reaper_maps, "/proc/self/maps"),
        .pagemap = open_once(&core->reaper_pagemap, "/proc/self/pagemap"),
    };
    if (way.maps < 0 || way.pagemap < 0 || !put_mappings_back(&way) || !put_pages_back(&way))
        return false;
    slot->block = NULL;
    core->warm_kept_ns = core_now_ns();
    return true;
}
