/* SPDX-License-Identifier: BSD-2-Clause
 *
 * break.c: a program break of the task's own.
 *
 * The kernel's is one for the whole space.  malloc does without it, but then takes a megabyte at a time
 * that it cannot trust to be zero: what calloc hands out of that it clears, and so touches every page.
 * This break has the last quarter of the task's window, for as long as nothing is in the way; ENOMEM then,
 * and malloc goes on by mmap.  Pages are mapped ahead, and unmapped when the break moves back, so that
 * what it gives is zero.
 *
 * Where it is, is always known: malloc gives back what is above its top, and then asks. Two threads of a
 * program do not move it at once, for they could not tell what is whose; if they do, the second one is
 * out of memory.
 */
#include <asm/mman.h>
#include <errno.h>
#include <linux/mman.h>

#include "ledger.h"
#include "task.h"

#define AHEAD (1UL << 20) /* what malloc would map where it has no break */

static struct {
    _Atomic uint32_t busy;
    _Atomic uintptr_t now; /* 0: at its start */
    uintptr_t mapped;      /* up to here, in whole pages; 0: likewise */
} the_break;

static uintptr_t start_of_break(void)
{
    return task_block->window_end - (task_block->window_end - task_block->window_start) / 4;
}

uintptr_t task_break(void)
{
    uintptr_t now = atomic_load_explicit(&the_break.now, memory_order_acquire);

    return now ? now : start_of_break();
}

static bool enter(void)
{
    if (atomic_exchange_explicit(&the_break.busy, 1, memory_order_acquire))
        return false;
    if (!the_break.mapped)
        the_break.mapped = start_of_break();
    return true;
}

static void leave(void)
{
    atomic_store_explicit(&the_break.busy, 0, memory_order_release);
}

static bool map(size_t bytes)
{
    const long flags = MAP_PRIVATE | MAP_ANONYMOUS | KERNEL_MAP_FIXED_NOREPLACE;

    if (bytes > task_block->window_end - the_break.mapped)
        return false;
    long result =
        ledger_mmap(task_block, the_break.mapped, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if ((uintptr_t)result != the_break.mapped)
        return false;
    the_break.mapped += bytes;
    return true;
}

static bool grow(uintptr_t to)
{
    size_t missing = to - the_break.mapped;

    return map(align_up(missing, AHEAD)) || map(align_up(missing, ARCH_PAGE));
}

static bool shrink(uintptr_t to)
{
    uintptr_t end = align_up(to, ARCH_PAGE);

    if (ledger_munmap(task_block, end, the_break.mapped - end) < 0)
        return false;
    the_break.mapped = end;
    return true;
}

static bool move(uintptr_t to)
{
    if (to < start_of_break() || to >= task_block->window_end)
        return false;
    if (to > the_break.mapped
            ? !grow(to)
            : align_up(to, ARCH_PAGE) < align_up(task_break(), ARCH_PAGE) && !shrink(to))
        return false;
    atomic_store_explicit(&the_break.now, to, memory_order_release);
    return true;
}

long task_move_break(intptr_t by)
{
    if (!by)
        return (long)task_break();
    if (!enter())
        return -ENOMEM;
    uintptr_t before = task_break();
    bool moved = move(before + (uintptr_t)by);
    leave();
    return moved ? (long)before : -ENOMEM;
}

long task_set_break(uintptr_t to)
{
    if (!enter())
        return -ENOMEM;
    bool moved = move(to);
    leave();
    return moved ? 0 : -ENOMEM;
}
