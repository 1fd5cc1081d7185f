/* SPDX-License-Identifier: BSD-2-Clause
 *
 * mappings.c: how many mappings there are, how many there may be, and whose memory is mapped.
 *
 * All tasks share one vm.max_map_count; at its end tasks fail to load and the root fails to
 * allocate.  To count is to read /proc/self/maps, 10 to 50 ms when there are tens of thousands.  So
 * the count is taken again when it would take less than a twentieth of the time since the last one,
 * or when what was started and mapped since could matter; and a spawn is refused on a fresh count
 * only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

#define READ_BYTES (256UL << 10)
#define REST 1000           /* mappings that a spawn must leave */
#define COST_SHARE 20       /* counting takes at most 1 / COST_SHARE of the time */
#define NEAR 4000           /* mappings above REST below which every spawn counts */
#define MAPPINGS_A_CALL 2   /* a mapping call splits one at the most */
#define DEFAULT_LIMIT 65530 /* where the kernel's setting cannot be read */

static uint64_t read_limit(void)
{
    char text[32] = {0};
    int descriptor = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

    if (descriptor < 0)
        return DEFAULT_LIMIT;
    ssize_t bytes = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    return bytes > 0 ? strtoull(text, NULL, 10) : DEFAULT_LIMIT;
}

/* The lines of /proc/self/maps; 0 when it cannot be read. */
static uint64_t count_mappings(void)
{
    char *buffer = malloc(READ_BYTES);
    int descriptor = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    uint64_t lines = 0;
    ssize_t bytes;

    while (buffer && descriptor >= 0 && (bytes = read(descriptor, buffer, READ_BYTES)) > 0)
        for (const char *at = buffer;
             (at = memchr(at, '\n', (size_t)(buffer + bytes - at))) != NULL; at++)
            lines++;
    if (descriptor >= 0)
        close(descriptor);
    free(buffer);
    return lines;
}

/* What this thread has taken of a processor: a count that others have interrupted cost no more, and
 * is not good for longer. */
static uint64_t processor_ns(void)
{
    struct timespec taken;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &taken);
    return (uint64_t)taken.tv_sec * 1000000000UL + (uint64_t)taken.tv_nsec;
}

/* Whether a spawn that needs so many mappings leaves enough.  The count does not have them yet when
 * the next spawn asks, and may never: they are promised until it is taken again.  Spawner only. */
bool mappings_left(struct core *core, uint64_t needed)
{
    uint64_t made = atomic_load_explicit(&core->control->mappings_made, memory_order_relaxed);
    uint64_t now = core_now_ns();
    uint64_t most = core->mappings + (made - core->mappings_made_then) * MAPPINGS_A_CALL +
                    (core->mappings_promised += needed);

    if (core->mappings_limit && most + REST + NEAR <= core->mappings_limit &&
        now - core->mappings_counted_ns < core->mappings_cost_ns * COST_SHARE)
        return true;
    uint64_t begun = processor_ns(), mappings = count_mappings(), limit = read_limit();
    core_lock(core);
    core->mappings = mappings;
    core->mappings_limit = limit;
    core_unlock(core, SIDE_SPAWNER);
    core->mappings_promised = needed;
    core->mappings_made_then = made;
    core->mappings_counted_ns = now;
    core->mappings_cost_ns = processor_ns() - begun;
    return mappings + needed + REST <= limit;
}

/* ---- Ranges ----------------------------------------------------------------------------------- */

/* One mapping at or after an address: its bounds and whether it may be read and written. */
struct mapping {
    uintptr_t start, end;
    bool readable, writable;
};

static int next_by_query(int maps, uintptr_t address, struct mapping *mapping)
{
    struct kernel_procmap_query query = {.size = sizeof query,
                                         .query_flags = KERNEL_PROCMAP_COVERING_OR_NEXT,
                                         .query_addr = address};

    if (ioctl(maps, KERNEL_PROCMAP_QUERY, &query) < 0)
        return -errno;
    *mapping =
        (struct mapping){query.vma_start, query.vma_end, query.vma_flags & KERNEL_PROCMAP_READABLE,
                         query.vma_flags & KERNEL_PROCMAP_WRITABLE};
    return 0;
}

static int next_by_reading(FILE *maps, uintptr_t address, struct mapping *mapping)
{
    char line[4352], protection[5];
    unsigned long start, end;

    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, protection) == 3 && end > address) {
            *mapping = (struct mapping){start, end, protection[0] == 'r', protection[1] == 'w'};
            return 0;
        }
    return -ENOENT;
}

/* Whether [start, start + bytes) is mapped without a hole and readable: 1 writable too, 0 not,
 * -EFAULT. */
int mappings_check(uintptr_t start, size_t bytes)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t at = start, end = start + bytes;
    bool writable = true;
    int result = 0;

    /* A process that has changed its user may not read it: what is mapped msync tells, too. */
    if (!maps)
        return msync((void *)(start & -ARCH_PAGE), align_up(end, ARCH_PAGE) - (start & -ARCH_PAGE),
                     MS_ASYNC) < 0
                   ? -EFAULT
                   : 1;
    while (at < end && result == 0) {
        struct mapping mapping;
        result = next_by_query(fileno(maps), at, &mapping);
        if (result == -ENOTTY || result == -EINVAL)
            result = next_by_reading(maps, at, &mapping);
        if (result < 0 || mapping.start > at || !mapping.readable)
            result = -EFAULT;
        writable = writable && mapping.writable;
        at = mapping.end;
    }
    fclose(maps);
    return result < 0 ? result : writable;
}

/* Whether nothing is mapped in a range.  Where the kernel cannot be asked, a mapping of all of it is
 * tried, which costs a tenth of a spawn: to unmap it again the kernel walks its page tables.  Spawner
 * only. */
bool mappings_none(struct core *core, uintptr_t start, uintptr_t end)
{
    struct mapping next = {0};
    int result = core->maps < 0 ? core->maps : next_by_query(core->maps, start, &next);

    if (result == 0 || result == -ENOENT)
        return result < 0 || next.start >= end;
    if (mmap((void *)start, end - start, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | KERNEL_MAP_FIXED_NOREPLACE, -1,
             0) == MAP_FAILED)
        return errno != EEXIST;
    munmap((void *)start, end - start);
    return true;
}
