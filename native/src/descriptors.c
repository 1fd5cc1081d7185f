/* SPDX-License-Identifier: BSD-2-Clause
 *
 * descriptors.c: the root's descriptors that a task gets, fetched into the table of the thread that
 * clones it; child_descriptors.c puts them in their places.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core.h"

/* The root's descriptor of that number, in this thread's table: its number here, or -errno. */
static int fetch(struct core *core, int number, struct fetched *fetched)
{
    if (fetched->all_here)
        return sys3(SYS_fcntl, number, F_GETFD, 0) < 0 ? -EBADF : number;
    int found = (int)sys3(SYS_pidfd_getfd, core->self_pidfd, number, 0);
    if (found >= 0)
        fetched->descriptors[fetched->count++] = found;
    return found;
}

static int open_null(struct fetched *fetched)
{
    int found = descriptor_take(open("/dev/null", O_RDWR | O_CLOEXEC));

    if (found >= 0)
        fetched->descriptors[fetched->count++] = found;
    return found;
}

static int fetch_stdio(struct core *core, const struct aiopip_spawn_request *request,
                       int32_t sources[3], struct fetched *fetched, struct program_error *error)
{
    uint32_t mapped = request->options ? request->options->mapped_stdio : 0;

    for (int i = 0; i < 3; i++) {
        int32_t wanted = request->stdio[i];
        if (wanted == AIOPIP_STDIO_STDOUT) {
            sources[i] = sources[1];
            continue;
        }
        bool inherit = wanted == AIOPIP_STDIO_INHERIT;
        int source = wanted == AIOPIP_STDIO_NULL ? open_null(fetched)
                                                 : fetch(core, inherit ? i : wanted, fetched);
        /* What the root has closed stays closed. */
        if (source < 0 && !(inherit && source == -EBADF)) {
            if (mapped & 1U << i)
                return program_fail(error, AIOPIP_FAILED_OPTIONS, -source, "fd_map[%d]", i);
            return program_fail(error, (enum aiopip_failure)(AIOPIP_FAILED_STDIN + i), -source,
                                "descriptor %d", wanted);
        }
        sources[i] = source < 0 ? -1 : source;
    }
    return 0;
}

/* list: the task's own copy.  A number beyond the limit would fail in the child with the same error as
 * a source that is not open. */
static int fetch_listed(struct core *core, struct aiopip_descriptor *list, size_t count,
                        struct fetched *fetched, struct program_error *error)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    for (size_t i = 0; i < count; i++) {
        int source = (rlim_t)list[i].number < limit.rlim_cur ? fetch(core, list[i].source, fetched)
                                                             : -EINVAL;
        if (source < 0)
            return program_fail(error, AIOPIP_FAILED_OPTIONS, -source, "%s[%d]",
                                list[i].passed ? "pass_fds" : "fd_map", list[i].number);
        list[i].source = source;
    }
    return 0;
}

int descriptors_fetch(struct core *core, const struct aiopip_spawn_request *request,
                      struct task_start *child, struct fetched *fetched,
                      struct program_error *error)
{
    size_t listed = child->options ? child->options->descriptor_count : 0;

    fetched->descriptors = fetched->first;
    if (listed)
        fetched->descriptors = malloc((3 + listed) * sizeof *fetched->descriptors);
    if (!fetched->descriptors)
        return program_fail(error, AIOPIP_FAILED_MEMORY, ENOMEM, "descriptors");
    int result = fetch_stdio(core, request, child->stdio, fetched, error);
    if (result == 0 && listed)
        result =
            fetch_listed(core, (struct aiopip_descriptor *)(uintptr_t)child->options->descriptors,
                         listed, fetched, error);
    return result;
}

void descriptors_close(struct fetched *fetched)
{
    while (fetched->count > 0)
        close(fetched->descriptors[--fetched->count]);
    if (fetched->descriptors != fetched->first)
        free(fetched->descriptors);
}
