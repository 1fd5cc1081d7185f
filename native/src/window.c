/* SPDX-License-Identifier: BSD-2-Clause
 *
 * window.c: where windows lie, and what the root maps into a window before its task starts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "core.h"

#define AREA_EIGHTHS ((ARCH_AREA_END - ARCH_AREA_START) / 8)

/* Whether nothing is mapped in [start, end); without /proc that is believed. */
static bool is_free(uintptr_t start, uintptr_t end)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    bool nothing = true;
    char line[512];

    while (maps && nothing && fgets(line, sizeof line, maps))
        nothing = sscanf(line, "%lx-%lx", &from, &to) != 2 || from >= end || to <= start;
    if (maps)
        fclose(maps);
    return nothing;
}

/* Choose the windows' area.  Nothing is mapped: the kernel's own searches end far from it, and if
 * somebody maps there by address, MAP_FIXED_NOREPLACE tells. */
int window_reserve(struct control *control)
{
    /* Six eighths for the windows, one for what no window takes, one to start at random in. */
    size_t window = 6 * AREA_EIGHTHS / control->max_tasks & -(1UL << 30);
    size_t bytes = window * control->max_tasks, overflow = AREA_EIGHTHS;

    for (int i = 0; i < 64; i++) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
            random = (uint64_t)i << 30;
        uintptr_t start = ARCH_AREA_START + (random % AREA_EIGHTHS & -(1UL << 30));
        if (!is_free(start, start + bytes + overflow))
            continue;
        control->windows = start;
        control->window_bytes = window;
        control->overflow_start = start + bytes;
        control->overflow_end = start + bytes + overflow;
        atomic_store(&control->overflow_cursor, control->overflow_start);
        return 0;
    }
    return -ENOMEM;
}

/* A page that pthread_getattr_np finds below the stack.  It takes the stack to be as large as
 * RLIMIT_STACK allows down to the next mapping: where the limit is our stack's size that is right
 * without, and a mapping is saved. */
static int map_guard(uintptr_t stack, size_t stack_bytes)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur == stack_bytes)
        return 0;
    return mmap((void *)(stack - ARCH_PAGE), ARCH_PAGE, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | KERNEL_MAP_FIXED_NOREPLACE, -1,
                0) == MAP_FAILED
               ? -errno
               : 0;
}

/* Map stack, block and ld.so.  On failure what was mapped stays for window_unmap. */
int window_map(struct core *core, int32_t pipid, size_t stack_bytes, const struct image *image,
               struct task_block **block_out, uintptr_t *stack_start, uintptr_t *image_at)
{
    struct control *control = core->control;
    struct slot *slot = core_slot(core, pipid);
    uintptr_t window = control->windows + (size_t)pipid * control->window_bytes;
    size_t block_bytes =
        align_up(sizeof(struct task_block) + control->max_tasks * sizeof(uint64_t), ARCH_PAGE);
    uintptr_t stack = window + SHARED_GAP;

    if (mmap((void *)stack, stack_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK | KERNEL_MAP_FIXED_NOREPLACE,
             -1, 0) == MAP_FAILED)
        return -errno;
    struct task_block *block = (struct task_block *)(stack + stack_bytes - block_bytes);
    uintptr_t first = stack + stack_bytes + ARCH_PAGE;
    int result = map_guard(stack, stack_bytes);
    if (result == 0)
        result = image_map(image, first);
    if (result < 0)
        return result;
    block->magic = SHARED_MAGIC;
    block->abi_version = AIOPIP_ABI_VERSION;
    block->pipid = pipid;
    block->generation = atomic_load(&slot->generation);
    block->control = control;
    block->slot = slot;
    block->window_start = window;
    block->window_first = first;
    block->window_end = window + control->window_bytes;
    slot->block = block;
    block->spare_end = first + image->bytes;
    atomic_store(&slot->spare, first + image->spare);
    atomic_store(&slot->cursor, first + image->bytes);
    *block_out = block;
    *stack_start = stack;
    *image_at = first;
    return 0;
}

/* ---- Unmapping -------------------------------------------------------------------------------- */

struct span {
    uintptr_t start, end;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a, *right = b;
    return (left->start > right->start) - (left->start < right->start);
}

/* Entries may overlap (a task killed while it split one): each address is unmapped once, for behind
 * the first time it may belong to somebody else. */
static void unmap_outside(struct task_block *block)
{
    struct span spans[SHARED_OUTSIDE];
    size_t count = 0;

    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        uintptr_t start = atomic_load(&block->outside[i].start);
        uintptr_t end = atomic_load(&block->outside[i].end);
        if (end > 1 && start < end)
            spans[count++] = (struct span){start, end};
    }
    qsort(spans, count, sizeof *spans, compare_spans);
    uintptr_t done = 0;
    for (size_t i = 0; i < count; i++) {
        uintptr_t start = spans[i].start > done ? spans[i].start : done;
        if (start < spans[i].end) {
            munmap((void *)start, spans[i].end - start);
            done = spans[i].end;
        }
    }
}

/* Unmap all that a task has ever mapped.  Nobody may run on it or hold it. */
void window_unmap(struct control *control, int32_t pipid)
{
    struct slot *slot = &control->slots[pipid];
    uintptr_t window = control->windows + (size_t)pipid * control->window_bytes;

    if (slot->block) {
        /* Contexts belong to the space, not to the process: its end did not end them. */
        for (int i = 0; i < SHARED_AIO; i++)
            if (atomic_load(&slot->block->aio[i]))
                sys1(SYS_io_destroy, (long)atomic_load(&slot->block->aio[i]));
        unmap_outside(slot->block);
    }
    slot->block = NULL;
    munmap((void *)window, control->window_bytes);
}
