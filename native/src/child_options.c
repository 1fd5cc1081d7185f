/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child_options.c: options that are given seldom, applied by the child; freestanding, as child.c is.
 */
#include <errno.h>

#include "child.h"

#define RESOURCE_DATA 2
#define RESOURCE_STACK 3
#define PRIORITY_OF_PROCESS 0

static long get_limit(int resource, struct kernel_rlimit *limit)
{
    return sys4(SYS_prlimit64, 0, resource, 0, (long)(uintptr_t)limit);
}

static long set_limit(int resource, const struct kernel_rlimit *limit)
{
    return sys4(SYS_prlimit64, 0, resource, (long)(uintptr_t)limit, 0);
}

/* A program finds out about its stack by the limit. */
static void set_stack_limit(struct task_block *block, size_t bytes)
{
    struct kernel_rlimit limit = {0};

    long result = get_limit(RESOURCE_STACK, &limit);
    limit.soft = bytes;
    limit.hard = limit.hard < bytes ? bytes : limit.hard;
    if (result < 0 || (result = set_limit(RESOURCE_STACK, &limit)) < 0)
        child_fail_option(block, "stack_bytes", CHILD_NO_PART, result);
}

/* The soft limit on data is kept from the program until the preload has taken the break away, which
 * puts in place what stands in data_limit. */
static long set_data_limit(struct task_block *block, const struct kernel_rlimit *limit)
{
    const struct kernel_rlimit no_break = {0, limit->hard};

    if (limit->soft > limit->hard)
        return -EINVAL;
    block->start.data_limit = *limit;
    return set_limit(RESOURCE_DATA, &no_break);
}

void child_limit(struct task_block *block)
{
    const struct aiopip_spawn_options *options = block->start.options;

    if (options->stack_bytes)
        set_stack_limit(block, options->stack_bytes);
    for (size_t i = 0; i < options->limit_count; i++) {
        const struct aiopip_limit *wanted = &options->limits[i];
        struct kernel_rlimit limit = {0};
        long result = get_limit(wanted->resource, &limit);
        limit.soft = wanted->soft;
        limit.hard = wanted->keeps_hard ? limit.hard : wanted->hard;
        if (result == 0)
            result = wanted->resource == RESOURCE_DATA ? set_data_limit(block, &limit)
                                                       : set_limit(wanted->resource, &limit);
        if (result < 0)
            child_fail_option(block, "rlimits", wanted->resource, result);
    }
}

void child_renice(struct task_block *block)
{
    const struct aiopip_spawn_options *options = block->start.options;
    long result = 0;

    if (options->given & AIOPIP_OPTION_NICE)
        result = sys3(SYS_setpriority, PRIORITY_OF_PROCESS, 0, options->nice);
    if (result < 0)
        child_fail_option(block, "nice", CHILD_NO_PART, result);
}
