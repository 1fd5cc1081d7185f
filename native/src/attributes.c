/* SPDX-License-Identifier: BSD-2-Clause
 *
 * attributes.c: what a task takes over from the thread that asked for it, and what options put in place
 * of that.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core.h"
#include "options.h"

int attributes_read(struct thread_attributes *attributes)
{
    memset(attributes, 0, sizeof *attributes);
    sys4(SYS_rt_sigprocmask, 0, 0, (long)(uintptr_t)&attributes->signal_mask, 8);
    long bytes = sys3(SYS_sched_getaffinity, 0, sizeof attributes->affinity,
                      (long)(uintptr_t)attributes->affinity);
    if (bytes < 0)
        return (int)bytes;
    attributes->affinity_bytes = (uint32_t)bytes;
    long result = sys4(SYS_sched_getattr, 0, (long)(uintptr_t)&attributes->scheduler,
                       sizeof attributes->scheduler, 0);
    return result < 0 ? (int)result : 0;
}

/* ---- The stack -------------------------------------------------------------------------------- */

#define STACK_BYTES (8UL << 20)
#define STACK_BYTES_MIN (256UL << 10)
#define STACK_BYTES_MAX (64UL << 20) /* of what a limit asks for, which may be meant otherwise */

/* The soft limit of the stack that a task with such options will have. */
uint64_t attributes_stack_limit(const struct aiopip_spawn_options *options)
{
    struct rlimit limit;

    if (options && options->stack_bytes)
        return options->stack_bytes;
    for (size_t i = 0; options && i < options->limit_count; i++)
        if (options->limits[i].resource == RLIMIT_STACK)
            return options->limits[i].soft;
    return getrlimit(RLIMIT_STACK, &limit) < 0 ? STACK_BYTES : limit.rlim_cur;
}

/* As much as the user's processes get, within reason; or as was asked for. */
size_t attributes_stack(const struct aiopip_spawn_request *request)
{
    const struct aiopip_spawn_options *options = request->options;
    uint64_t wanted = attributes_stack_limit(options);

    if (!(options && options->stack_bytes) && wanted > STACK_BYTES_MAX)
        wanted = STACK_BYTES;
    wanted = wanted < STACK_BYTES_MIN ? STACK_BYTES_MIN : wanted;
    return wanted > SIZE_MAX - ARCH_PAGE ? SIZE_MAX : align_up(wanted, ARCH_PAGE);
}

/* ---- What the child applies ------------------------------------------------------------------- */

/* The user's limits, unless the user has changed what the core made of them. */
static void set_limits(struct core *core, struct task_start *child)
{
    struct rlimit data, files;

    getrlimit(RLIMIT_DATA, &data);
    child->data_limit = (struct kernel_rlimit){data.rlim_cur, data.rlim_max};
    getrlimit(RLIMIT_NOFILE, &files);
    if (core->raised_file_limit && files.rlim_cur == core->raised_file_limit) {
        rlim_t soft = core->file_limit.rlim_cur;
        child->set_file_limit = 1;
        child->file_limit.soft = soft < files.rlim_max ? soft : files.rlim_max;
        child->file_limit.hard = files.rlim_max;
    }
}

static void set_scheduling(const struct request *request, const struct thread_attributes *mine,
                           struct task_start *child)
{
    const struct aiopip_spawn_options *options = request->spawn.options;
    const struct thread_attributes *wanted = &request->attributes;

    if (options && options->cpu_bytes) {
        child->set_affinity = 1;
        child->affinity_bytes = (uint32_t)options->cpu_bytes;
        memcpy(child->affinity, options->cpus, options->cpu_bytes);
    } else if (memcmp(wanted->affinity, mine->affinity, sizeof mine->affinity) != 0) {
        child->set_affinity = 1;
        child->affinity_bytes = wanted->affinity_bytes;
        memcpy(child->affinity, wanted->affinity, sizeof child->affinity);
    }
    if (memcmp(&wanted->scheduler, &mine->scheduler, sizeof mine->scheduler) != 0) {
        child->set_scheduler = 1;
        child->scheduler = wanted->scheduler;
    }
}

void attributes_set(struct core *core, const struct request *request,
                    const struct thread_attributes *mine, struct task_start *child)
{
    const struct aiopip_spawn_request *spawn = &request->spawn;
    const struct aiopip_spawn_options *options = spawn->options;
    const char *slash = strrchr(spawn->program, '/');
    const char *name = slash ? slash + 1 : spawn->program;

    child->flags = spawn->flags;
    child->process_group = spawn->process_group;
    child->reset_handlers = !core->has_clone3;
    child->signal_mask = options && options->given & AIOPIP_OPTION_SIGMASK
                             ? options->sigmask
                             : request->attributes.signal_mask;
    set_limits(core, child);
    set_scheduling(request, mine, child);
    if (options && options->given & OPTIONS_CREDENTIALS)
        child->dumpable = prctl(PR_GET_DUMPABLE);
    strncpy(child->comm, options && options->name ? options->name : name, sizeof child->comm - 1);
}
