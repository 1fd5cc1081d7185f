/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probing.c: one small task, run when the core is opened.  Where the preload cannot be loaded ld.so
 * only warns, and tasks would run without a ledger: that is found here, not by what leaks later.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core.h"

#define DEADLINE_NS 10000000000UL
#define ABORT_MS 1000

/* Take the events that wait: 0 while the probe runs, 1 when it has ended well, -errno. */
static int take_events(struct aiopip_client *client)
{
    struct aiopip_event events[4];
    int count = aiopip_drain(client, events, 4), result = 0;

    for (int i = 0; i < count; i++)
        if (events[i].kind == AIOPIP_EVENT_FAILED)
            result = -events[i].error;
        else if (events[i].kind == AIOPIP_EVENT_EXITED && events[i].wait_status != 0)
            result = -ENOEXEC;
        else if (events[i].kind == AIOPIP_EVENT_EXITED)
            result = events[i].flags & AIOPIP_EVENT_LOADED ? 1 : -ELIBACC;
    return result;
}

/* Whether its slot is as if it had never been used; if not, an event will tell when to ask again. */
static bool is_clean(struct aiopip_client *client)
{
    struct core *core = client->core;
    struct slot *slot = core_slot(core, 0);

    core_lock(core);
    bool clean = atomic_load(&slot->state) == SLOT_FREE;
    client->wants_reclaimed = !clean;
    if (clean) {
        atomic_store(&slot->peer.generation, 0);
        core->spawned = core->ended = core->failed = core->unloaded = core->resumed = 0;
    }
    core_unlock(core, SIDE_PROCESS);
    return clean;
}

/* Run it once, for a report or for its status alone.  0, or -errno. */
int probe_run(struct aiopip_client *client, const char *path, struct probe_report *report)
{
    char argv[] = "aiopip-probe\0 0123456789abcdef";
    const size_t name_bytes = sizeof "aiopip-probe";
    struct aiopip_spawn_request request = {
        .program = path,
        .argv = argv,
        .argv_bytes = name_bytes,
        .argc = 1,
        .envp = "",
        .stdio = {AIOPIP_STDIO_NULL, AIOPIP_STDIO_NULL, AIOPIP_STDIO_NULL},
        .pipid = 0,
    };
    uint64_t generation, deadline = core_now_ns() + DEADLINE_NS;
    int32_t pipid;

    if (report) {
        int printed = snprintf(argv + name_bytes, sizeof argv - name_bytes, "%lx",
                               (unsigned long)(uintptr_t)report);
        request.argv_bytes += (size_t)printed + 1;
        request.argc++;
    }
    int result = aiopip_spawn(client, &request, &pipid, &generation), ended = 0;
    while (result == 0 && !(ended && is_clean(client))) {
        struct pollfd ready = {aiopip_fd(client), POLLIN, 0};
        poll(&ready, 1, 100);
        int taken = take_events(client);
        ended = taken ? taken : ended;
        if (core_now_ns() > deadline)
            result = -ETIMEDOUT;
    }
    return result < 0 ? result : ended < 0 ? ended : 0;
}

int probe_core(struct aiopip_client *client, const struct aiopip_options *options)
{
    atomic_store(&client->core->probing, true);
    int result = learn_recall(client, options);
    if (result == 0)
        result = probe_run(client, options->probe, NULL);
    if (result >= 0)
        learn_seed(client, options);
    atomic_store(&client->core->probing, false);
    if (result < 0 && aiopip_abort(client, ABORT_MS) > 0)
        return 0; /* it cannot even be killed: the core must live on, and its spawns will tell */
    return result < 0 ? result : 0;
}
