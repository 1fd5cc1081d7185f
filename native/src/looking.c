/* SPDX-License-Identifier: BSD-2-Clause
 *
 * looking.c: for those who look in: where a task's memory lies, and a socket by which others ask.
 *
 * The reaper waits for that socket, in the epoll that it has.  So the client's loop needs no second
 * descriptor for something that most roots never hear of.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "reaper.h"

_Static_assert(AIOPIP_SPANS == SHARED_OUTSIDE + 1, "the window, and what lies outside");

int aiopip_spans(aiopip_client *client, int32_t pipid, uint64_t generation,
                 struct aiopip_span spans[AIOPIP_SPANS])
{
    struct core *core = client->core;
    struct span found[SHARED_OUTSIDE + 1];
    int count = -ESRCH;

    if (core->pid != getpid())
        return count;
    core_lock(core);
    if (core_task(core, pipid, generation) &&
        atomic_load(&core_slot(core, pipid)->state) == SLOT_RUNNING)
        count = (int)window_spans(core->control, pipid, found);
    core_unlock(core, SIDE_PROCESS);
    for (int i = 0; i < count; i++)
        spans[i] = (struct aiopip_span){found[i].start, found[i].end};
    return count;
}

int aiopip_heed(aiopip_client *client, int socket)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    core_lock(core);
    client->heeded[SIDE_PROCESS] = socket;
    core->clients_changed = true; /* the spawner has the reaper look */
    core_unlock(core, SIDE_PROCESS);
    shared_wake_spawner(core->control);
    return 0;
}

/* Edge-triggered: one event for each who comes, whether the client has dealt with the one before or
 * not.  What cannot be had is not heeded. */
void reaper_heed(struct core *core, struct aiopip_client *client)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = REAPER_CALL_MARK};
    int theirs = client->heeded[SIDE_PROCESS], *ours = &client->heeded[SIDE_REAPER];

    if (theirs < 0 || *ours >= 0)
        return;
    *ours = core_fetch(core, theirs, core->reaper_self_pidfd);
    if (*ours >= 0 && epoll_ctl(core->epoll, EPOLL_CTL_ADD, *ours, &event) < 0) {
        close(*ours);
        *ours = -1;
    }
}

void reaper_unheed(struct core *core, struct aiopip_client *client)
{
    if (client->heeded[SIDE_REAPER] < 0)
        return;
    /* The client has it, too: closing alone would leave it in the epoll. */
    epoll_ctl(core->epoll, EPOLL_CTL_DEL, client->heeded[SIDE_REAPER], NULL);
    close(client->heeded[SIDE_REAPER]);
    client->heeded[SIDE_REAPER] = -1;
}
