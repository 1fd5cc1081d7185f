/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ledger.c: see ledger.h and the picture in shared.h.
 *
 * The kernel would choose an address and tell it afterwards, and a task killed in between would
 * leave a mapping that nobody knows of.  So the address is chosen here, in the task's own window,
 * and asked for with MAP_FIXED_NOREPLACE: whatever a dead task had mapped is found by unmapping the
 * window.  The cursor only grows, and starts over at the end of the window; what is in the way then
 * is jumped over in growing steps.
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

/* Write [start, end) down; NULL when the table is full, and then it is counted.
 *
 * A thread claims an entry by its end, so two never write one.  Killed before the end is published,
 * the thread has not mapped anything yet. */
static struct outside *outside_add(struct task_block *block, uintptr_t start, uintptr_t end)
{
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

/* Strike [start, end) before it is unmapped: from then on it may be somebody else's.
 *
 * Pieces that stay are written down before the entry shrinks; killed in between, the task leaves
 * two entries that overlap, and the reclaimer merges them. */
static void outside_strike(struct task_block *block, uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        struct outside *entry = &block->outside[i];
        uintptr_t to = atomic_load(&entry->end);
        if (to <= 1)
            continue;
        uintptr_t from = atomic_load(&entry->start);
        if (to <= start || end <= from)
            continue;
        if (from < start && end < to)
            outside_add(block, end, to);
        if (from < start)
            atomic_store(&entry->end, start);
        else if (end < to)
            atomic_store(&entry->start, end);
        else
            atomic_store(&entry->end, 0);
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

static long place(struct control *control, struct slot *slot, struct task_block *block,
                  size_t bytes, long protection, long flags, long descriptor, long offset)
{
    size_t alignment = alignment_of(bytes, flags);
    size_t rounded = align_up(bytes, flags & MAP_HUGETLB ? alignment : ARCH_PAGE);
    size_t skip = 0;

    if (rounded == 0 || rounded < bytes) /* 0, or beyond any space: the kernel says which error */
        return raw_mmap(0, bytes, protection, flags, descriptor, offset);
    flags |= KERNEL_MAP_FIXED_NOREPLACE;
    for (int i = 0; i < PLACE_TRIES && rounded + alignment <= control->window_bytes / 2; i++) {
        uintptr_t at =
            take(&slot->cursor, block->window_first, block->window_end, rounded, alignment, skip);
        long result = raw_mmap(at, bytes, protection, flags, descriptor, offset);
        if (result != -EEXIST)
            return result;
        skip = skip ? skip * 2 : PLACE_SKIP;
    }
    /* Larger than half a window, or the window is full: the area that all tasks share.  Nobody else
     * gets these addresses from it until it starts over, so to write them down first is safe. */
    for (int i = 0; i < PLACE_TRIES; i++) {
        uintptr_t at = take(&control->overflow_cursor, control->overflow_start,
                            control->overflow_end, rounded, alignment, skip);
        if (at + rounded > control->overflow_end)
            break;
        struct outside *entry = outside_add(block, at, at + rounded);
        long result = raw_mmap(at, bytes, protection, flags, descriptor, offset);
        if (!failed(result))
            return result;
        if (entry)
            atomic_store(&entry->end, 0);
        if (result != -EEXIST)
            return result;
        skip = skip ? skip * 2 : PLACE_SKIP;
    }
    return -ENOMEM;
}

/* ---- The calls ------------------------------------------------------------------------------ */

/* Map at an address outside the window, or fail. */
static long map_outside(struct task_block *block, uintptr_t address, size_t bytes, long protection,
                        long flags, long descriptor, long offset)
{
    uintptr_t end = address + align_up(bytes, ARCH_PAGE);
    if (end <= address)
        return -ENOMEM;
    struct outside *entry = outside_add(block, address, end);
    long result = raw_mmap(address, bytes, protection, flags, descriptor, offset);
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
    return place(block->control, block->slot, block, bytes, protection, flags, descriptor, offset);
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

    if (flags & MREMAP_FIXED) {
        if (!in_window(block, new_address, new_bytes))
            outside_add(block, new_address, new_address + rounded);
        long result = raw_mremap(address, bytes, new_bytes, flags, new_address);
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
    long target = place(block->control, block->slot, block, new_bytes, PROT_NONE,
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

long ledger_loader_mmap(uintptr_t site, size_t bytes, long protection, long flags, long descriptor,
                        long offset)
{
    struct control *control = ledger_control;
    size_t index = (site - control->windows) / control->window_bytes;
    if (site < control->windows || index >= control->max_tasks)
        return raw_mmap(0, bytes, protection, flags, descriptor, offset);
    struct slot *slot = &control->slots[index];
    uintptr_t spare = take_spare(slot, bytes, protection, flags);
    if (spare)
        return (long)spare;
    atomic_fetch_add_explicit(&control->mappings_made, 1, memory_order_relaxed);
    return place(control, slot, slot->block, bytes, protection, flags, descriptor, offset);
}
