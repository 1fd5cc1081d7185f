/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libc_pages.c: libc's functions led elsewhere by the root's copy of their pages; see
 * src/libc_pages.h.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "task.h"

/* Whether this libc is the one that the copy is of. */
static int is_same(const struct libc_pages *pages, const uintptr_t functions[])
{
    const uint8_t *id = (const uint8_t *)(task_libc.base + pages->build_id);

    for (size_t i = 0; i < LIBC_FUNCTION_COUNT; i++)
        if (functions[i] != (pages->functions[i] ? task_libc.base + pages->functions[i] : 0))
            return 0;
    for (uint32_t i = 0; i < pages->build_id_bytes; i++)
        if (id[i] != pages->build_id_is[i])
            return 0;
    return 1;
}

static int is_copy(const struct libc_pages *pages, long result, const struct stat *status)
{
    return result == 0 && status->st_dev == pages->device && status->st_ino == pages->inode;
}

/* The copy; not what has its descriptor's number when the root has closed that, nor is such a thing opened,
 * which may be a pipe or a terminal. */
static int open_copy(const struct libc_pages *pages)
{
    const long path = (long)(uintptr_t)pages->path;
    struct stat status;

    if (!is_copy(pages, sys2(SYS_stat, path, (long)(uintptr_t)&status), &status))
        return -1;
    int file = (int)sys3(SYS_open, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (file < 0)
        return -1;
    if (is_copy(pages, sys2(SYS_fstat, file, (long)(uintptr_t)&status), &status))
        return file;
    sys1(SYS_close, file);
    return -1;
}

/* Whether the task has its descriptors for itself: others would keep the copy's if it is killed now. */
static int has_own_descriptors(void)
{
    const struct aiopip_spawn_options *options = task_block->start.options;

    return !options || !(options->given & AIOPIP_OPTION_SHARE_FILES);
}

int task_map_libc_pages(const uintptr_t functions[], void *const substitutes[])
{
    const struct libc_pages *pages = &task_block->control->libc_pages;
    uintptr_t *table = (uintptr_t *)(task_libc.base + pages->table);

    if (!pages->path[0] || !is_same(pages, functions) || !has_own_descriptors())
        return 0;
    int file = open_copy(pages);
    if (file < 0)
        return 0;
    /* First the table: once the pages are there, the functions jump. */
    for (size_t i = 0; i < LIBC_FUNCTION_COUNT; i++)
        table[i] = (uintptr_t)substitutes[i];
    long start = (long)(task_libc.base + pages->start);
    long mapped = sys6(SYS_mmap, start, (long)(pages->end - pages->start), PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0);
    sys1(SYS_close, file);
    /* Kernels before 6.12 unmap what is there, and may have no memory then for what shall be. */
    if (mapped != start &&
        sys3(SYS_mprotect, start, (long)(pages->end - pages->start), PROT_READ | PROT_EXEC) < 0)
        sys1(SYS_exit_group, 127);
    return mapped == start;
}
