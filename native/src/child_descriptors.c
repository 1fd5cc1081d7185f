/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child_descriptors.c: from the cloning thread's descriptor table to the task's own; freestanding, as
 * child.c is.
 */
#include <linux/fcntl.h>

#include "child.h"

#define RESOURCE_NOFILE 7
#define LAST_DESCRIPTOR 0x7fffffffL

/* What of a task's descriptors comes from where.  Those that are listed are the task's own copy, which
 * is changed here. */
struct places {
    struct task_block *block;
    struct aiopip_descriptor stdio[3]; /* source -1: closed */
    struct aiopip_descriptor *listed;
    size_t count;
};

static __attribute__((noreturn)) void fail(const struct places *places,
                                           const struct aiopip_descriptor *at, long error)
{
    if (at->number < 3)
        child_fail(places->block, (enum aiopip_failure)(AIOPIP_FAILED_STDIN + at->number), error);
    child_fail_option(places->block, at->passed ? "pass_fds" : "fd_map", at->number, error);
}

static bool is_number(const struct places *places, int32_t number)
{
    size_t low = 0, high = places->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (places->listed[middle].number == number)
            return true;
        if (places->listed[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return number >= 0 && number < 3;
}

/* A source that lies where another one will be put is lifted above all of these, so that any
 * permutation works.  The others stay: above the last number there may be no room. */
static void lift(const struct places *places, struct aiopip_descriptor *at, int last)
{
    if (at->source == at->number || !is_number(places, at->source))
        return;
    long lifted = sys3(SYS_fcntl, at->source, F_DUPFD_CLOEXEC, last + 1);
    if (lifted < 0)
        fail(places, at, lifted);
    at->source = (int32_t)lifted;
}

static void put(const struct places *places, const struct aiopip_descriptor *at)
{
    long result = 0;

    if (at->source < 0)
        sys1(SYS_close, at->number); /* it may not be open: that is what is wanted */
    else if (at->source == at->number)
        result = sys3(SYS_fcntl, at->number, F_SETFD, 0);
    else
        result = sys3(SYS_dup3, at->source, at->number, 0);
    if (result < 0)
        fail(places, at, result);
}

static void close_range_of(long first, long last)
{
    struct kernel_rlimit limit = {0};

    if (first > last || sys3(SYS_close_range, first, last, 0) == 0)
        return;
    /* Not there, or forbidden. */
    sys4(SYS_prlimit64, 0, RESOURCE_NOFILE, 0, (long)(uintptr_t)&limit);
    for (long i = first; i <= last && i < (long)limit.soft; i++)
        sys1(SYS_close, i);
}

static void close_others(const struct places *places)
{
    long next = 3;

    for (size_t i = 0; i < places->count; i++) {
        close_range_of(next, places->listed[i].number - 1);
        next = places->listed[i].number + 1;
    }
    close_range_of(next, LAST_DESCRIPTOR);
}

/* As exec does: close what is marked for it.  The table is a copy of the root's. */
static void close_marked_one(long number)
{
    long flags = sys3(SYS_fcntl, number, F_GETFD, 0);

    if (flags > 0 && flags & FD_CLOEXEC)
        sys1(SYS_close, number);
}

/* A descriptor's number, or -1 for "." and "..". */
static long number_of(const char *name)
{
    long number = *name >= '0' && *name <= '9' ? 0 : -1;

    for (; *name >= '0' && *name <= '9'; name++)
        number = 10 * number + (*name - '0');
    return number;
}

/* Through /proc, for the limit of their numbers may be a million; entries come by number, so that
 * closing does not disturb. */
static void close_marked(void)
{
    _Alignas(8) char entries[2048];
    struct entry { /* struct linux_dirent64 */
        uint64_t inode, offset;
        uint16_t bytes;
        uint8_t type;
        char name[];
    };
    struct kernel_rlimit limit = {0};
    long got;

    long folder = sys3(SYS_open, (long)(uintptr_t)"/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0) {
        sys4(SYS_prlimit64, 0, RESOURCE_NOFILE, 0, (long)(uintptr_t)&limit);
        for (long i = 0; i < (long)limit.soft; i++)
            close_marked_one(i);
        return;
    }
    while ((got = sys3(SYS_getdents64, folder, (long)(uintptr_t)entries, sizeof entries)) > 0)
        for (long at = 0; at < got; at += ((struct entry *)(void *)(entries + at))->bytes)
            close_marked_one(number_of(((struct entry *)(void *)(entries + at))->name));
    sys1(SYS_close, folder);
}

void child_place_descriptors(struct task_block *block)
{
    const struct task_start *start = &block->start;
    uint32_t given = start->options ? start->options->given : 0;
    struct places places = {.block = block};
    int last = 2;

    if (given & AIOPIP_OPTION_SHARE_FILES)
        return;
    if (start->options && start->options->descriptor_count) {
        places.listed = (struct aiopip_descriptor *)(uintptr_t)start->options->descriptors;
        places.count = start->options->descriptor_count;
        last = places.listed[places.count - 1].number;
    }
    for (int i = 0; i < 3; i++) {
        places.stdio[i] = (struct aiopip_descriptor){i, start->stdio[i], 0};
        lift(&places, &places.stdio[i], last);
    }
    for (size_t i = 0; i < places.count; i++)
        lift(&places, &places.listed[i], last);
    for (int i = 0; i < 3; i++)
        put(&places, &places.stdio[i]);
    for (size_t i = 0; i < places.count; i++)
        put(&places, &places.listed[i]);
    if (given & AIOPIP_OPTION_INHERIT)
        close_marked();
    else if (start->event_fd < 0)
        close_others(&places);
}

void child_close_descriptors(struct task_block *block)
{
    const struct places places = {.block = block};

    close_others(&places);
}
