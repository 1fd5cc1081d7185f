/* SPDX-License-Identifier: BSD-2-Clause
 *
 * events.c: what clients are told: their rings, from the threads that have something to say to the
 * loop that drains them.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

/* The ring cannot overflow: of each kind a slot has one event in it at the most, and a slot is not
 * used again before its last event was drained. */
static void push(struct aiopip_client *client, enum aiopip_event_kind kind, int32_t pipid,
                 uint64_t generation)
{
    client->needs_kick |= client->head == client->tail;
    client->ring[client->tail++ & client->ring_mask] =
        (struct queued_event){kind, pipid, generation};
}

void core_post(struct core *core, int32_t pipid, enum aiopip_event_kind kind)
{
    struct task *task = &core->tasks[pipid];

    if (task->client)
        push(task->client, kind, pipid, atomic_load(&core_slot(core, pipid)->peer.generation));
}

/* Behind STARTED; and one for all that come before it is read, which tells the latest. */
static void queue_stop(struct core *core, int32_t pipid)
{
    struct task *task = &core->tasks[pipid];

    if (!task->stop_status || !task->announced || task->stop_queued)
        return;
    task->stop_queued = true;
    core_post(core, pipid, AIOPIP_EVENT_STOPPED);
}

void core_announce(struct core *core, int32_t pipid)
{
    if (core->tasks[pipid].announced)
        return;
    core->tasks[pipid].announced = true;
    core_post(core, pipid, AIOPIP_EVENT_STARTED);
    queue_stop(core, pipid);
}

/* A task tells its client by the eventfd, and that it has started by its slot.  It may have done so
 * before it is known here: then the spawner looks, when it makes it known. */
void core_announce_started(struct core *core)
{
    for (uint32_t i = 0; i < core->loading_count; i++) {
        int32_t pipid = core->loading[i].pipid;
        const struct slot *slot = core_slot(core, pipid);
        if (atomic_load(&slot->state) == SLOT_RUNNING && slot->block->start.event_fd >= 0 &&
            atomic_load_explicit(&slot->started, memory_order_acquire) == TASK_STARTED_DONE)
            core_announce(core, pipid);
    }
}

void core_post_export(struct core *core, int32_t pipid)
{
    core_announce(core, pipid);
    if (core->tasks[pipid].export_queued)
        return;
    core->tasks[pipid].export_queued = true;
    core_post(core, pipid, AIOPIP_EVENT_EXPORTED);
}

void core_post_stop(struct core *core, int32_t pipid, int wait_status)
{
    struct task *task = &core->tasks[pipid];

    if (!task->client || !task->client->listens)
        return;
    task->stop_status = wait_status;
    queue_stop(core, pipid);
}

void core_post_released(struct core *core)
{
    for (struct aiopip_client *client = core->clients; client; client = client->next)
        if (!client->release_queued) {
            client->release_queued = true;
            push(client, AIOPIP_EVENT_RELEASED, -1, 0);
        }
}

void core_post_called(struct core *core)
{
    for (struct aiopip_client *client = core->clients; client; client = client->next)
        if (client->heeded[SIDE_REAPER] >= 0 && !client->call_queued) {
            client->call_queued = true;
            push(client, AIOPIP_EVENT_CALLED, -1, 0);
        }
}

void core_settle(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];

    if (atomic_load(&slot->state) != SLOT_ENDED || !task->drained)
        return;
    if (task->memory == MEMORY_NONE)
        atomic_store(&slot->state, SLOT_FREE);
    else if (task->memory != MEMORY_HELD)
        return;
    for (struct aiopip_client *client = core->clients; client; client = client->next)
        if (client->wants_reclaimed) {
            client->wants_reclaimed = false;
            push(client, AIOPIP_EVENT_RECLAIMED, -1, 0);
        }
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void fill_usage(struct aiopip_event *event, const struct rusage *usage)
{
    event->user_us = microseconds(usage->ru_utime);
    event->system_us = microseconds(usage->ru_stime);
    event->max_rss_kib = (uint64_t)usage->ru_maxrss;
    event->minor_faults = (uint64_t)usage->ru_minflt;
    event->major_faults = (uint64_t)usage->ru_majflt;
    event->blocks_in = (uint64_t)usage->ru_inblock;
    event->blocks_out = (uint64_t)usage->ru_oublock;
    event->voluntary_switches = (uint64_t)usage->ru_nvcsw;
    event->involuntary_switches = (uint64_t)usage->ru_nivcsw;
}

/* Write an event out, and note that the client has had it. */
static void deliver(struct aiopip_client *client, const struct queued_event *queued,
                    struct aiopip_event *event)
{
    struct core *core = client->core;

    memset(event, 0, offsetof(struct aiopip_event, detail) + 1);
    event->kind = (int32_t)queued->kind;
    event->pipid = queued->pipid;
    event->generation = queued->generation;
    if (queued->kind == AIOPIP_EVENT_RELEASED)
        client->release_queued = false;
    if (queued->kind == AIOPIP_EVENT_CALLED)
        client->call_queued = false;
    if (queued->pipid < 0)
        return;
    struct slot *slot = core_slot(core, queued->pipid);
    struct task *task = &core->tasks[queued->pipid];
    event->pid = task->pid;
    event->started_ns = task->started_ns;
    event->ended_ns = task->ended_ns;
    if (atomic_load(&slot->loaded) != TASK_LOADED_NOT)
        event->flags |= AIOPIP_EVENT_LOADED;
    switch (queued->kind) {
    case AIOPIP_EVENT_FAILED:
        event->failure = (int32_t)task->failure.failure;
        event->error = task->error;
        memcpy(event->detail, task->failure.detail, sizeof event->detail);
        break;
    case AIOPIP_EVENT_EXITED:
        event->wait_status = task->wait_status;
        event->flags |= task->status_lost ? AIOPIP_EVENT_STATUS_LOST : 0;
        event->flags |= task->left ? AIOPIP_EVENT_LEFT : 0;
        event->flags |= task->acknowledged ? 0 : AIOPIP_EVENT_ACKNOWLEDGE;
        fill_usage(event, &task->usage);
        break;
    case AIOPIP_EVENT_EXPORTED:
        task->export_queued = false;
        break;
    case AIOPIP_EVENT_STOPPED:
        event->wait_status = task->stop_status;
        if (WIFCONTINUED(task->stop_status))
            event->kind = AIOPIP_EVENT_CONTINUED;
        task->stop_queued = false;
        task->stop_status = 0;
        break;
    default:
        break;
    }
    if (queued->kind == AIOPIP_EVENT_FAILED || queued->kind == AIOPIP_EVENT_EXITED)
        task->drained = true;
}

int aiopip_drain(aiopip_client *client, struct aiopip_event *events, int count)
{
    struct core *core = client->core;
    int32_t ended[ENDINGS_AT_ONCE];
    uint64_t value;
    int taken = 0;

    if (core->pid != getpid())
        return -ESRCH;
    int endings = ending_take(client, ended);
    core_lock(core);
    /* First the descriptor, then the ring: who comes later finds the ring empty and kicks again.  Under the
     * lock, so that the kick of who was here just now does not wake us a second time. */
    while (read(client->event_fds[SIDE_PROCESS], &value, sizeof value) < 0 && errno == EINTR)
        ;
    for (int i = 0; i < endings; i++)
        if (!ending_look(core, ended[i], SIDE_PROCESS))
            ended[i] = -1;
    core_announce_started(core);
    while (taken < count && client->head != client->tail) {
        struct queued_event queued = client->ring[client->head++ & client->ring_mask];
        deliver(client, &queued, &events[taken++]);
        if (queued.pipid >= 0)
            core_settle(core, queued.pipid);
    }
    client->needs_kick = client->head != client->tail;
    core_unlock(core, SIDE_PROCESS);
    for (int i = 0; i < endings; i++)
        if (ended[i] >= 0)
            ending_tell(core, ended[i]);
    return taken;
}
