/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ledger.c: see ledger.h and the picture in shared.h.
 *
 * The kernel would choose an address and tell it afterwards, and a task killed in between would
 * leave a mapping that nobody knows of.  So the address is chosen here, in the task's own window,
 * and asked for with MAP_FIXED_NOREPLACE: whatever a dead task had mapped is found by unmapping the
 * window.  The cursor only grows, and starts over at the end of the window; what is in the way then
 * is jumped over in growing steps.  What no window takes goes to extents, ranges that a task adds to
 * its window.
 */
#include "ledger.h"

#include <asm/mman.h>
#include <errno.h>
#include <linux/mman.h>

#define PLACE_TRIES 24
#define PLACE_SKIP (1UL << 20)

struct control *ledger_control;

static int failed(long result)
{
    return (unsigned long)result > -4096UL;
}

static long raw_mmap(uintptr_t address, size_t bytes, long protection, long flags, long descriptor,
                     long offset)
{
    return sys6(SYS_mmap, (long)address, (long)bytes, protection, flags, descriptor, offset);
}

/* ---- Mappings outside the window ------------------------------------------------------------ */

/* Whether one entry has all of [start, end): what a program commits of memory that it had reserved. */
static int outside_has(struct task_block *block, uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        uintptr_t to = atomic_load(&block->outside[i].end);
        if (to > 1 && end <= to && atomic_load(&block->outside[i].start) <= start)
            return 1;
    }
    return 0;
}

/* Write [start, end) down, unless it is; NULL when it was, or the table is full, which is counted.
 *
 * A thread claims an entry by its end, so two never write one, and who is killed before the end is
 * published has written nothing. */
static struct outside *outside_add(struct task_block *block, uintptr_t start, uintptr_t end)
{
    if (outside_has(block, start, end))
        return NULL;
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        struct outside *entry = &block->outside[i];
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&entry->end, &none, 1))
            continue;
        atomic_store(&entry->start, start);
        atomic_store(&entry->end, end);
        return entry;
    }
    atomic_fetch_add(&block->control->untracked, 1);
    return NULL;
}

/* An extent is the task's until its end, whatever is mapped in it. */
static int is_extent(const struct slot *slot, uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < SHARED_EXTENTS; i++)
        if (atomic_load(&slot->extents[i].start) == start && slot->extents[i].end == end)
            return 1;
    return 0;
}

/* Strike [start, end) before it is unmapped: from then on it may be somebody else's.
 *
 * The entry is claimed as a free one is, so that another thread neither changes nor reuses it.  The
 * piece behind the range is written down first; killed in between, a task leaves a piece that it
 * had mapped and nobody knows of, never one that is not its own.  Extents stay. */
static void outside_strike(struct task_block *block, uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        struct outside *entry = &block->outside[i];
        uintptr_t to = atomic_load(&entry->end), from = atomic_load(&entry->start);
        if (to <= 1 || to <= start || end <= from || is_extent(block->slot, from, to) ||
            !atomic_compare_exchange_strong(&entry->end, &to, 1))
            continue;
        from = atomic_load(&entry->start); /* ours now */
        if (from < start && end < to)
            outside_add(block, end, to);
        if (from < start) {
            atomic_store(&entry->end, start);
        } else if (end < to) {
            atomic_store(&entry->start, end);
            atomic_store(&entry->end, to);
        } else {
            atomic_store(&entry->end, 0);
        }
    }
}

static int in_window(const struct task_block *block, uintptr_t address, size_t bytes)
{
    return address >= block->window_start && address < block->window_end &&
           bytes <= block->window_end - address;
}

/* ---- Choosing addresses --------------------------------------------------------------------- */

/* Take `bytes` at or after the cursor. */
static uintptr_t take(_Atomic uintptr_t *cursor, uintptr_t first, uintptr_t end, size_t bytes,
                      size_t alignment, size_t skip)
{
    uintptr_t old = atomic_load_explicit(cursor, memory_order_relaxed), at;
    do {
        at = align_up(old + skip, alignment);
        if (at < old || at >= end || end - at < bytes)
            at = align_up(first, alignment);
    } while (!atomic_compare_exchange_weak(cursor, &old, at + bytes));
    return at;
}

/* Huge pages want their own alignment, transparent ones profit from it. */
static size_t alignment_of(size_t bytes, long flags)
{
    if (flags & MAP_HUGETLB) {
        unsigned shift = (unsigned)(flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
        return shift ? 1UL << shift : ARCH_HUGE_PAGE;
    }
    return bytes >= ARCH_HUGE_PAGE ? ARCH_HUGE_PAGE : ARCH_PAGE;
}

/* What is to be mapped. */
struct wanted {
    size_t bytes, rounded, alignment;
    long protection, flags, descriptor, offset;
};

/* Map between first and end, at the cursor or behind what is in the way; -EEXIST when there is no
 * room. */
static long place_in(_Atomic uintptr_t *cursor, uintptr_t first, uintptr_t end,
                     const struct wanted *wanted)
{
    size_t skip = 0;

    if (wanted->rounded > end - first || wanted->alignment > end - first - wanted->rounded)
        return -EEXIST; /* a cursor would be moved beyond the end */
    for (int i = 0; i < PLACE_TRIES; i++) {
        uintptr_t at = take(cursor, first, end, wanted->rounded, wanted->alignment, skip);
        if (at + wanted->rounded > end)
            break;
        long result = raw_mmap(at, wanted->bytes, wanted->protection,
                               wanted->flags | KERNEL_MAP_FIXED_NOREPLACE, wanted->descriptor,
                               wanted->offset);
        if (result != -EEXIST)
            return result;
        skip = skip ? skip * 2 : PLACE_SKIP;
    }
    return -EEXIST;
}

/* Whether a task has an extent there: it may have nothing mapped in it just now. */
static int is_taken(const struct control *control, uintptr_t start, uintptr_t end)
{
    for (uint32_t i = 0; i < control->max_tasks; i++)
        for (int j = 0; j < SHARED_EXTENTS; j++) {
            const struct extent *extent = &control->slots[i].extents[j];
            uintptr_t from = atomic_load(&extent->start);
            if (from > 1 && from < end && start < extent->end)
                return 1;
        }
    return 0;
}

/* Reserve a range that no task has. */
static long reserve(struct control *control, const struct wanted *range)
{
    for (int i = 0; i < PLACE_TRIES; i++) {
        long at = place_in(&control->overflow_cursor, control->overflow_start,
                           control->overflow_end, range);
        if (failed(at) || !is_taken(control, (uintptr_t)at, (uintptr_t)at + range->rounded))
            return at;
        sys2(SYS_munmap, at, (long)range->rounded);
    }
    return -ENOMEM;
}

/* Give the task another range beside its window, out of the area that all tasks share: of a window's
 * size, or as large as what is wanted needs.  That it is free is seen by reserving it; from then on
 * it is in the ledger as a whole.  NULL when there is none. */
static struct extent *add_extent(struct task_block *block, const struct wanted *wanted)
{
    struct control *control = block->control;
    size_t least = align_up(wanted->rounded + wanted->alignment, ARCH_HUGE_PAGE);
    const struct wanted range = {
        .bytes = least > control->window_bytes ? least : control->window_bytes,
        .rounded = least > control->window_bytes ? least : control->window_bytes,
        .alignment = ARCH_HUGE_PAGE,
        .protection = PROT_NONE,
        .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        .descriptor = -1,
    };

    for (int i = 0; i < SHARED_EXTENTS; i++) {
        struct extent *extent = &block->slot->extents[i];
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&extent->start, &none, 1))
            continue;
        long at = least > wanted->rounded ? reserve(control, &range) : -ENOMEM;
        if (failed(at)) {
            atomic_store(&extent->start, 0);
            return NULL;
        }
        extent->end = (uintptr_t)at + range.rounded;
        outside_add(block, (uintptr_t)at, extent->end);
        atomic_store(&extent->cursor, (uintptr_t)at);
        atomic_store(&extent->start, (uintptr_t)at);
        /* Last: once it is not reserved, is_taken must say that it is ours. */
        sys2(SYS_munmap, at, (long)range.rounded);
        return extent;
    }
    return NULL;
}

static long place(struct slot *slot, struct task_block *block, size_t bytes, long protection,
                  long flags, long descriptor, long offset)
{
    size_t alignment = alignment_of(bytes, flags);
    size_t rounded = align_up(bytes, flags & MAP_HUGETLB ? alignment : ARCH_PAGE);
    const struct wanted wanted = {bytes, rounded, alignment, protection, flags, descriptor, offset};
    long result = -EEXIST;

    if (rounded == 0 || rounded < bytes) /* 0, or beyond any space: the kernel says which error */
        return raw_mmap(0, bytes, protection, flags, descriptor, offset);
    /* A mapping larger than half the window would have the cursor start over at once. */
    if (rounded <= (block->window_end - block->window_start) / 2)
        result = place_in(&slot->cursor, block->window_first, block->window_end, &wanted);
    for (int i = 0; result == -EEXIST && i < SHARED_EXTENTS; i++) {
        struct extent *extent = &slot->extents[i];
        uintptr_t start = atomic_load(&extent->start);
        if (start > 1 && rounded <= extent->end - start)
            result = place_in(&extent->cursor, start, extent->end, &wanted);
    }
    struct extent *extent = result == -EEXIST ? add_extent(block, &wanted) : NULL;
    if (extent)
        result = place_in(&extent->cursor, atomic_load(&extent->start), extent->end, &wanted);
    if (result != -EEXIST)
        return result;
    /* Anywhere; known a moment too late, if the task is killed right now. */
    result = raw_mmap(0, bytes, protection, flags, descriptor, offset);
    if (!failed(result))
        outside_add(block, (uintptr_t)result, (uintptr_t)result + rounded);
    return result;
}

/* ---- The calls ------------------------------------------------------------------------------ */

/* Map at an address outside the window, or fail.
 *
 * MAP_FIXED puts an end to whatever is there, so the range may be written down before.  Where
 * somebody else's mapping makes the call fail it must not: a task killed in between would have it
 * unmapped.  Then a task killed behind the call leaves a mapping that nobody knows of. */
static long map_outside(struct task_block *block, uintptr_t address, size_t bytes, long protection,
                        long flags, long descriptor, long offset)
{
    uintptr_t end = address + align_up(bytes, ARCH_PAGE);
    struct outside *entry = NULL;

    if (end <= address)
        return -ENOMEM;
    if (!(flags & KERNEL_MAP_FIXED_NOREPLACE))
        entry = outside_add(block, address, end);
    long result = raw_mmap(address, bytes, protection, flags, descriptor, offset);
    if (!failed(result) && flags & KERNEL_MAP_FIXED_NOREPLACE)
        outside_add(block, address, end);
    if (failed(result) && entry)
        atomic_store(&entry->end, 0);
    return result;
}

long ledger_mmap(struct task_block *block, uintptr_t address, size_t bytes, long protection,
                 long flags, long descriptor, long offset)
{
    atomic_fetch_add_explicit(&block->control->mappings_made, 1, memory_order_relaxed);
    if (flags & (MAP_FIXED | KERNEL_MAP_FIXED_NOREPLACE)) {
        if (in_window(block, address, bytes))
            return raw_mmap(address, bytes, protection, flags, descriptor, offset);
        return map_outside(block, address, bytes, protection, flags, descriptor, offset);
    }
    if (flags & MAP_32BIT) { /* the kernel alone can place it; known a moment too late */
        long result = raw_mmap(address, bytes, protection, flags, descriptor, offset);
        if (!failed(result))
            outside_add(block, (uintptr_t)result, (uintptr_t)result + align_up(bytes, ARCH_PAGE));
        return result;
    }
    if (address) { /* a hint: there if it is free, as the kernel does it */
        uintptr_t at = address & -ARCH_PAGE;
        long fixed = flags | KERNEL_MAP_FIXED_NOREPLACE;
        long result = in_window(block, at, bytes)
                          ? raw_mmap(at, bytes, protection, fixed, descriptor, offset)
                          : map_outside(block, at, bytes, protection, fixed, descriptor, offset);
        if (!failed(result))
            return result;
    }
    return place(block->slot, block, bytes, protection, flags, descriptor, offset);
}

long ledger_munmap(struct task_block *block, uintptr_t address, size_t bytes)
{
    if (!in_window(block, address, bytes) && !(address & (ARCH_PAGE - 1)))
        outside_strike(block, address, address + align_up(bytes, ARCH_PAGE));
    return sys2(SYS_munmap, (long)address, (long)bytes);
}

static long raw_mremap(uintptr_t address, size_t bytes, size_t new_bytes, long flags,
                       uintptr_t new_address)
{
    return sys5(SYS_mremap, (long)address, (long)bytes, (long)new_bytes, flags, (long)new_address);
}

long ledger_mremap(struct task_block *block, uintptr_t address, size_t bytes, size_t new_bytes,
                   long flags, uintptr_t new_address)
{
    size_t rounded = align_up(new_bytes, ARCH_PAGE);
    int inside = in_window(block, address, new_bytes);

    if (new_bytes == 0 || address & (ARCH_PAGE - 1)) /* EINVAL: nothing may be struck for it */
        return raw_mremap(address, bytes, new_bytes, flags, new_address);
    if (flags & MREMAP_FIXED) {
        struct outside *entry = in_window(block, new_address, new_bytes)
                                    ? NULL
                                    : outside_add(block, new_address, new_address + rounded);
        long result = raw_mremap(address, bytes, new_bytes, flags, new_address);
        if (failed(result) && entry)
            atomic_store(&entry->end, 0);
        if (!failed(result) && !in_window(block, address, bytes) && !(flags & MREMAP_DONTUNMAP))
            outside_strike(block, address, address + align_up(bytes, ARCH_PAGE));
        return result;
    }
    /* In place, unless it would leave the window, or the caller wants a second mapping. */
    if ((inside || new_bytes <= bytes) && bytes && !(flags & MREMAP_DONTUNMAP)) {
        if (new_bytes < bytes && !in_window(block, address, bytes))
            outside_strike(block, address + rounded, address + align_up(bytes, ARCH_PAGE));
        long result = raw_mremap(address, bytes, new_bytes, flags & ~MREMAP_MAYMOVE, 0);
        if (!failed(result) || !(flags & MREMAP_MAYMOVE) || result != -ENOMEM)
            return result;
    }
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    long target = place(block->slot, block, new_bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (failed(target))
        return target;
    long result = raw_mremap(address, bytes, new_bytes, flags | MREMAP_FIXED, (uintptr_t)target);
    if (failed(result))
        ledger_munmap(block, (uintptr_t)target, new_bytes);
    else if (!in_window(block, address, bytes) && bytes && !(flags & MREMAP_DONTUNMAP))
        outside_strike(block, address, address + align_up(bytes, ARCH_PAGE));
    return result;
}

/* Memory for ld.so's first allocator, out of the zero pages that were mapped behind its data: a
 * mapping and a call less in every task.  0 when it wants another kind, or there is not enough. */
static uintptr_t take_spare(struct slot *slot, size_t bytes, long protection, long flags)
{
    uintptr_t end = slot->block->spare_end, at = atomic_load(&slot->spare);
    size_t rounded = align_up(bytes, ARCH_PAGE);

    if (protection != (PROT_READ | PROT_WRITE) || flags != (MAP_PRIVATE | MAP_ANONYMOUS))
        return 0;
    do
        if (rounded == 0 || at > end || rounded > end - at)
            return 0;
    while (!atomic_compare_exchange_weak(&slot->spare, &at, at + rounded));
    return at;
}

struct slot *ledger_slot_of(uintptr_t site)
{
    struct control *control = ledger_control;
    size_t index = (site - control->windows) / control->window_bytes;

    return site < control->windows || index >= control->max_tasks ? NULL : &control->slots[index];
}

long ledger_loader_mmap(uintptr_t site, size_t bytes, long protection, long flags, long descriptor,
                        long offset)
{
    struct control *control = ledger_control;
    struct slot *slot = ledger_slot_of(site);
    if (!slot)
        return raw_mmap(0, bytes, protection, flags, descriptor, offset);
    uintptr_t spare = take_spare(slot, bytes, protection, flags);
    if (spare)
        return (long)spare;
    atomic_fetch_add_explicit(&control->mappings_made, 1, memory_order_relaxed);
    return place(slot, slot->block, bytes, protection, flags, descriptor, offset);
}
