/* SPDX-License-Identifier: BSD-2-Clause
 *
 * options.c: see options.h.  They are copied twice: for the request that waits for its turn, and onto
 * the task's stack, where the child reads them when the request is gone.
 */
#include "options.h"

#include <errno.h>
#include <string.h>

#include "shared.h"

#define ALIGNMENT 16UL
#define CPU_BYTES_MAX sizeof(((struct task_start *)0)->affinity)

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

bool options_want_table(const struct aiopip_spawn_options *options)
{
    return options && options->given & (AIOPIP_OPTION_INHERIT | AIOPIP_OPTION_SHARE_FILES);
}

/* What is shared cannot be changed for the task alone. */
static bool shares_what_it_changes(const struct aiopip_spawn_request *request)
{
    const struct aiopip_spawn_options *options = request->options;

    if (options->given & AIOPIP_OPTION_SHARE_FILES) {
        if (options->descriptor_count)
            return true;
        for (int i = 0; i < 3; i++)
            if (request->stdio[i] != AIOPIP_STDIO_INHERIT)
                return true;
    }
    return options->given & AIOPIP_OPTION_SHARE_FS &&
           (request->cwd || options->given & AIOPIP_OPTION_UMASK);
}

int options_check(const struct aiopip_spawn_request *request)
{
    const struct aiopip_spawn_options *options = request->options;

    if (!options)
        return 0;
    if (shares_what_it_changes(request))
        return -EINVAL;
    if (options->cpu_bytes > CPU_BYTES_MAX || options->cpu_bytes % sizeof(uint64_t))
        return -EINVAL;
    for (size_t i = 0; i < options->descriptor_count; i++)
        if (options->descriptors[i].number <= (i ? options->descriptors[i - 1].number : 2) ||
            options->descriptors[i].source < 0)
            return -EINVAL;
    return 0;
}

size_t options_bytes(const struct aiopip_spawn_options *options)
{
    if (!options)
        return 0;
    return align_up(sizeof *options, ALIGNMENT) + align_up(options->cpu_bytes, ALIGNMENT) +
           align_up(options->limit_count * sizeof *options->limits, ALIGNMENT) +
           align_up(options->descriptor_count * sizeof *options->descriptors, ALIGNMENT) +
           align_up(options->extra_group_count * sizeof *options->extra_groups, ALIGNMENT) +
           align_up(text_bytes(options->entry), ALIGNMENT) +
           align_up(options->arg_bytes, ALIGNMENT) + align_up(text_bytes(options->name), ALIGNMENT);
}

/* Copy a part, and go on behind it.  One that is not given stays NULL. */
static void *put(char **at, const void *part, size_t bytes)
{
    char *start = *at;

    if (!part)
        return NULL;
    *at += align_up(bytes, ALIGNMENT);
    return memcpy(start, part, bytes);
}

struct aiopip_spawn_options *options_copy(const struct aiopip_spawn_options *options, void *place)
{
    char *at = place;

    if (!options)
        return NULL;
    struct aiopip_spawn_options *copy = put(&at, options, sizeof *options);
    copy->cpus = put(&at, options->cpus, options->cpu_bytes);
    copy->limits = put(&at, options->limits, options->limit_count * sizeof *options->limits);
    copy->descriptors =
        put(&at, options->descriptors, options->descriptor_count * sizeof *options->descriptors);
    copy->extra_groups =
        put(&at, options->extra_groups, options->extra_group_count * sizeof *options->extra_groups);
    copy->entry = put(&at, options->entry, text_bytes(options->entry));
    if (options->arg_bytes)
        copy->arg = put(&at, options->arg, options->arg_bytes);
    copy->name = put(&at, options->name, text_bytes(options->name));
    return copy;
}
