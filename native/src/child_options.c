/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child_options.c: options that are given seldom, applied by the child; freestanding, as child.c is.
 */
#include <errno.h>
#include <linux/prctl.h>

#include "child.h"
#include "options.h"

#define RESOURCE_DATA 2
#define RESOURCE_STACK 3
#define PRIORITY_OF_PROCESS 0
#define MAY_READ 4
#define MAY_EXECUTE 1

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
    if (block->start.exec)
        return set_limit(RESOURCE_DATA, limit);
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

/* The groups first: afterwards it may not be allowed.  NULL, or the name of the option that failed. */
static const char *change(const struct aiopip_spawn_options *options, long *result)
{
    if (options->given & AIOPIP_OPTION_EXTRA_GROUPS &&
        (*result = sys2(SYS_setgroups, (long)options->extra_group_count,
                        (long)(uintptr_t)options->extra_groups)) < 0)
        return "extra_groups";
    if (options->given & AIOPIP_OPTION_GROUP &&
        (*result = sys3(SYS_setresgid, options->group, options->group, options->group)) < 0)
        return "group";
    if (options->given & AIOPIP_OPTION_USER &&
        (*result = sys3(SYS_setresuid, options->user, options->user, options->user)) < 0)
        return "user";
    return NULL;
}

/* A change of credentials takes two things away: from the whole space that it may be dumped, and the
 * signal that ends this process with the root.  Behind it ld.so opens the program as that user; and
 * without the preload, which is only a warning to ld.so, the task would not be what it is taken for. */
void child_change_credentials(struct task_block *block)
{
    const struct task_start *start = &block->start;
    const struct aiopip_spawn_options *options = start->options;
    long result = 0;

    if (!(options->given & OPTIONS_CREDENTIALS))
        return;
    const char *failed = change(options, &result);
    if (start->dumpable == 1)
        sys2(SYS_prctl, PR_SET_DUMPABLE, 1);
    child_die_with_root(block->control);
    if (failed)
        child_fail_option(block, failed, CHILD_NO_PART, result);
    if (start->exec)
        return; /* the kernel looks for itself */
    result = sys2(SYS_access, (long)(uintptr_t)start->program, MAY_READ | MAY_EXECUTE);
    if (result < 0)
        child_fail(block, AIOPIP_FAILED_PERMISSION, result);
    result = sys2(SYS_access, (long)(uintptr_t)start->preload, MAY_READ);
    if (result < 0)
        child_fail_option(block, options->given & AIOPIP_OPTION_USER ? "user" : "group",
                          CHILD_NO_PART, result);
}
