/* SPDX-License-Identifier: BSD-2-Clause
 *
 * window.c: where windows lie, and what the root maps into a window before its task starts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "core.h"
#include "warm.h"

#define GIB (1UL << 30)
#define WINDOWS_BYTES (4096 * GIB)  /* of all of a core's windows */
#define OVERFLOW_BYTES (1024 * GIB) /* for what no window takes */
#define PLACES_MAX 4096             /* obstacles that are passed in looking for a place */

/* Address space that nobody else may use: the areas of cores that are open, and of closed ones the
 * windows whose memory is held; one would unmap the other's.  A child by fork has its parent's for
 * ever.  Under the lock of core.c's opening, but for `released`. */
struct area {
    struct area *next;
    uintptr_t start, end;
    atomic_bool released; /* by any thread; taken out of the list by the next to reserve */
};

static struct area *areas;
static uintptr_t first_place; /* random, one a process */

/* ---- Where they lie --------------------------------------------------------------------------- */

/* The end of something that is in [start, end), 0 when nothing is.  Without /proc the mappings are
 * not seen, and MAP_FIXED_NOREPLACE must tell. */
static uintptr_t obstacle(uintptr_t start, uintptr_t end)
{
    unsigned long from, to;
    uintptr_t found = 0;
    char line[512];

    for (const struct area *area = areas; area; area = area->next)
        if (area->start < end && start < area->end)
            return area->end;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && !found && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from < end && start < to)
            found = to;
    if (maps)
        fclose(maps);
    return found;
}

static void forget_released(void)
{
    for (struct area **at = &areas; *at;) {
        struct area *area = *at;
        if (!atomic_load(&area->released)) {
            at = &area->next;
            continue;
        }
        *at = area->next;
        free(area);
    }
}

/* The first place of so many bytes at or behind first_place; what closed cores have left lies there
 * side by side.  0 when there is none. */
static uintptr_t find_place(size_t bytes)
{
    uintptr_t start = first_place, found;
    bool started_over = false;

    for (int i = 0; i < PLACES_MAX; i++) {
        if (start + bytes > ARCH_AREA_END) {
            if (started_over)
                return 0;
            started_over = true;
            start = ARCH_AREA_START;
        }
        if ((found = obstacle(start, start + bytes)) == 0)
            return start;
        start = align_up(found, GIB);
    }
    return 0;
}

/* Choose the windows' area.  Nothing is mapped: the kernel's own searches end far from it, and if
 * somebody maps there by address, MAP_FIXED_NOREPLACE tells. */
int window_reserve(struct control *control)
{
    size_t window = WINDOWS_BYTES / control->max_tasks & -GIB;
    size_t windows = window * control->max_tasks, bytes = windows + OVERFLOW_BYTES;
    struct area *area = malloc(sizeof *area);
    uint64_t random = 0;

    if (!area)
        return -ENOMEM;
    forget_released();
    if (!first_place) {
        if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
            random = (uint64_t)getpid() * 2654435761UL;
        first_place = ARCH_AREA_START + random % ((ARCH_AREA_END - ARCH_AREA_START) / GIB) * GIB;
    }
    uintptr_t start = find_place(bytes);
    if (!start) {
        free(area);
        return -ENOMEM;
    }
    control->windows = start;
    control->window_bytes = window;
    control->overflow_start = start + windows;
    control->overflow_end = start + bytes;
    atomic_store(&control->overflow_cursor, control->overflow_start);
    *area = (struct area){.next = areas, .start = start, .end = start + bytes};
    control->area = areas = area;
    return 0;
}

/* The core is closed: of its area the rest of the process needs to spare only the windows from the
 * first to the last that is `kept`, and the overflow when one of those reaches into it. */
void window_shrink(const struct control *control, int32_t first_kept, int32_t last_kept)
{
    struct area *area = control->area;
    bool extends = false;

    for (int32_t i = first_kept; i <= last_kept; i++)
        for (int j = 0; j < SHARED_EXTENTS; j++)
            extends |= atomic_load(&control->slots[i].extents[j].start) != 0;
    area->start = control->windows + (size_t)first_kept * control->window_bytes;
    if (!extends)
        area->end = control->windows + (size_t)(last_kept + 1) * control->window_bytes;
}

/* Nothing is mapped in the area any more, and nothing will be.  Any thread, one at a time. */
void window_release(struct control *control)
{
    struct area *area = control->area;

    control->area = NULL; /* whoever reserves next frees it */
    if (area)
        atomic_store(&area->released, true);
}

/* ---- Mapping ---------------------------------------------------------------------------------- */

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

/* Where a task's block lies, and its stack begins. */
struct task_block *window_block(const struct core *core, int32_t pipid, size_t stack_bytes,
                                uintptr_t *stack_start)
{
    const struct control *control = core->control;

    *stack_start = control->windows + (size_t)pipid * control->window_bytes + SHARED_GAP;
    return (struct task_block *)(*stack_start + stack_bytes - SHARED_BLOCK_BYTES);
}

/* A block of zeros gets what all of them have. */
void window_fill(struct core *core, int32_t pipid, size_t stack_bytes, const struct image *image,
                 struct task_block *block)
{
    struct control *control = core->control;
    struct slot *slot = core_slot(core, pipid);

    block->magic = SHARED_MAGIC;
    block->abi_version = AIOPIP_ABI_VERSION;
    block->pipid = pipid;
    block->generation = atomic_load(&slot->peer.generation);
    block->control = control;
    block->slot = slot;
    block->window_start = control->windows + (size_t)pipid * control->window_bytes;
    block->window_first = block->window_start + SHARED_GAP + stack_bytes + ARCH_PAGE;
    block->window_end = block->window_start + control->window_bytes;
    block->spare_end = block->window_first + image->bytes;
    slot->block = block;
}

/* Map stack, block and ld.so.  On failure what was mapped stays for window_unmap. */
int window_map(struct core *core, int32_t pipid, size_t stack_bytes, const struct image *image,
               struct task_block **block_out, uintptr_t *stack_start, uintptr_t *image_at)
{
    struct control *control = core->control;
    struct slot *slot = core_slot(core, pipid);
    uintptr_t window = control->windows + (size_t)pipid * control->window_bytes, stack;
    struct task_block *block = window_block(core, pipid, stack_bytes, &stack);

    warm_drop(core, pipid);
    /* The window is a task's alone, and is unmapped as a whole: if somebody has mapped something
     * there by address, it is not used. */
    if (!mappings_none(core, window, window + control->window_bytes))
        return -EEXIST;
    if (mmap((void *)stack, stack_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK | KERNEL_MAP_FIXED_NOREPLACE,
             -1, 0) == MAP_FAILED)
        return -errno;
    slot->block = block;
    uintptr_t first = stack + stack_bytes + ARCH_PAGE;
    int result = map_guard(stack, stack_bytes);
    if (result == 0)
        result = image_map(image, first);
    if (result < 0)
        return result;
    window_fill(core, pipid, stack_bytes, image, block);
    atomic_store(&slot->spare, first + image->spare);
    atomic_store(&slot->cursor, first + image->bytes);
    *block_out = block;
    *stack_start = stack;
    *image_at = first;
    return 0;
}

/* ---- Unmapping -------------------------------------------------------------------------------- */

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a, *right = b;
    return (left->start > right->start) - (left->start < right->start);
}

/* By address, and without overlaps: the number that is left. */
static size_t merge_spans(struct span *spans, size_t count)
{
    size_t merged = 0;

    if (count == 0)
        return 0;
    qsort(spans, count, sizeof *spans, compare_spans);
    for (size_t i = 0; i < count; i++) {
        if (merged && spans[i].start <= spans[merged - 1].end) {
            if (spans[i].end > spans[merged - 1].end)
                spans[merged - 1].end = spans[i].end;
        } else {
            spans[merged++] = spans[i];
        }
    }
    return merged;
}

/* All that a task may have mapped: its window, and what it wrote down besides.  Entries may overlap
 * (a task killed while it split one): each address is unmapped once, for behind the first time it
 * may belong to somebody else. */
size_t window_spans(const struct control *control, int32_t pipid,
                    struct span spans[SHARED_OUTSIDE + 1])
{
    const struct task_block *block = control->slots[pipid].block;
    uintptr_t window = control->windows + (size_t)pipid * control->window_bytes;
    size_t count = 0;

    spans[count++] = (struct span){window, window + control->window_bytes};
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        uintptr_t start = atomic_load(&block->outside[i].start);
        uintptr_t end = atomic_load(&block->outside[i].end);
        if (end > 1 && start < end)
            spans[count++] = (struct span){start, align_up(end, ARCH_PAGE)};
    }
    return merge_spans(spans, count);
}

/* Unmap mapping by mapping what one call could not: a sealed one makes the whole call fail. */
static int unmap_each(uintptr_t start, uintptr_t end)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    char line[4352];
    int result = maps ? 0 : -errno;

    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from >= start && to <= end &&
            munmap((void *)from, to - from) < 0)
            result = -errno;
    if (maps)
        fclose(maps);
    return result;
}

static int unmap(uintptr_t start, uintptr_t end)
{
    if (start >= end || munmap((void *)start, end - start) == 0)
        return 0;
    return unmap_each(start, end);
}

/* Unmap [span.start, span.end) but for what is kept of it, which is added to remains. */
static int unmap_but(struct span span, const struct span *keep, size_t keep_count,
                     struct span *remains, size_t *remains_count)
{
    uintptr_t at = span.start;
    int result = 0;

    for (size_t i = 0; i < keep_count; i++) {
        uintptr_t start = keep[i].start > at ? keep[i].start : at;
        uintptr_t end = keep[i].end < span.end ? keep[i].end : span.end;
        if (start >= end)
            continue;
        result = unmap(at, start) < 0 ? -ENOMEM : result;
        remains[(*remains_count)++] = (struct span){start, end};
        at = end;
    }
    return unmap(at, span.end) < 0 ? -ENOMEM : result;
}

/* Contexts belong to the space, not to the process: its end did not end them. */
static void end_asynchronous_io(struct task_block *block)
{
    for (int i = 0; i < SHARED_AIO; i++)
        if (atomic_load(&block->aio[i]))
            sys1(SYS_io_destroy, (long)atomic_load(&block->aio[i]));
}

/* Unmap all that a task has ever mapped but for what is held, the spans to keep, which are put in
 * order.  Nobody may run on the rest.  What is left is task->remains.  0, or -errno when some of the
 * rest stays, and the window cannot be used again. */
int window_unmap(struct core *core, int32_t pipid, struct span *keep, size_t keep_count)
{
    struct control *control = core->control;
    struct slot *slot = &control->slots[pipid];
    struct task *task = &core->tasks[pipid];
    struct span all[SHARED_OUTSIDE + 1], *from = all;
    size_t count = 0, remains_count = 0;
    int result = 0;

    if (!slot->block && !task->trimmed)
        return 0; /* nothing was mapped: if there is something, it is not ours */
    warm_forget(core, pipid);
    keep_count = merge_spans(keep, keep_count);
    if (task->trimmed) {
        from = task->remains;
        count = task->remains_count;
    } else {
        count = window_spans(control, pipid, all);
    }
    struct span *remains = keep_count ? malloc((keep_count + count) * sizeof *remains) : NULL;
    if (keep_count && !remains)
        return 0; /* no memory to note what is left: all of it is kept for now */
    if (!task->trimmed)
        end_asynchronous_io(slot->block);
    for (size_t i = 0; i < count; i++)
        if (unmap_but(from[i], keep, keep_count, remains, &remains_count) < 0)
            result = -ENOMEM;
    free(task->remains);
    task->trimmed = remains_count > 0;
    task->remains = remains;
    task->remains_count = remains_count;
    slot->block = NULL;
    if (remains_count == 0) {
        free(remains);
        task->remains = NULL;
        for (int i = 0; i < SHARED_EXTENTS; i++)
            atomic_store(&slot->extents[i].start, 0);
    }
    return result;
}
