/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ending.c: a task's end, from the kernel's word to the client's ring.
 *
 * The reaper learns of each end by its epoll, and would have to wake the client: one thread after the
 * other, and on a virtual machine each takes its time to wake.  So the client's descriptor is an epoll as
 * well, of its eventfd and of the pidfds of its tasks, which the reaper puts there: the kernel wakes both at
 * once.  Whoever has the lock first asks for the status, marks the end and posts it:
 *
 *   client first    posts to itself, and drains.  The reaper finds the slot ended, and goes on with what
 *                   is its own: lists, memory, the descriptors
 *   reaper first    posts, and kicks under the lock; a client that is on its way to drain finds all in its
 *                   ring, and reads the eventfd behind the lock: it is not woken again
 *
 * If both come at once one waits for the other, a futex's sleep and wake long.  So the reaper, who is in no
 * hurry, comes a millisecond later.  A client that does not come (its loop is busy) holds up no more than
 * that.  A slot is not used again before both have been there: the client drains its last event, the reaper
 * gives its memory back.  Descriptors in the client's epoll are told of once (EPOLLONESHOT): the pidfd stays
 * readable until the reaper closes it.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kill_points.h"
#include "reaper.h"
#include "warm.h"

#define POSTED_MARK UINT64_MAX

/* What a child that could not apply its options has left to say of that. */
static void read_failure(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];
    enum aiopip_failure failure = (enum aiopip_failure)atomic_load(&slot->failure);
    const char *detail = failure == AIOPIP_FAILED_CWD       ? slot->block->start.cwd
                         : failure == AIOPIP_FAILED_OPTIONS ? slot->block->failed_option
                                                            : "";

    if (failure == AIOPIP_FAILED_OPTIONS && slot->block->failed_part >= 0)
        program_fail(&task->failure, failure, 0, "%s[%d]", detail, slot->block->failed_part);
    else
        program_fail(&task->failure, failure, 0, "%s", detail);
    task->error = atomic_load(&slot->error);
}

/* A change of credentials takes it from the whole space that it may be dumped, and the child puts that
 * back, unless it is killed in between. */
static void put_dumpable_back(const struct slot *slot)
{
    if (atomic_load(&slot->started) != TASK_STARTED_DONE && slot->block->start.dumpable == 1)
        prctl(PR_SET_DUMPABLE, 1);
}

/* Mark the end and post it. */
static void mark_ended(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];

    put_dumpable_back(slot);
    task->ended_ns = core_now_ns();
    task->failed = atomic_load(&slot->started) == TASK_STARTED_FAILED;
    task->acknowledged = task->failed || !atomic_load(&slot->block->sharing.published);
    task->memory = MEMORY_PENDING;
    if (task->failed) {
        read_failure(core, pipid);
        core->failed++;
    } else {
        core_announce(core, pipid);
        /* What it said before it ended, and the spawner has not come to read. */
        if (shared_take_bit(core->control->attention, (uint32_t)pipid))
            core_post_export(core, pipid);
    }
    core->alive--;
    core->ended++;
    warm_note_end(core, task);
    core->unloaded +=
        atomic_load(&slot->loaded) == TASK_LOADED_NOT && !task->failed && !slot->block->start.exec;
    if (task->client)
        task->client->alive--;
    atomic_store(&slot->state, SLOT_ENDED);
    KILL_POINT(END_MARKED);
    core_post(core, pipid, task->failed ? AIOPIP_EVENT_FAILED : AIOPIP_EVENT_EXITED);
    pthread_cond_broadcast(&core->changed);
}

bool ending_look(struct core *core, int32_t pipid, enum core_side side)
{
    /* In one piece under the lock: aiopip_kill trusts that a running task's PID is not free yet. */
    if (atomic_load(&core_slot(core, pipid)->state) != SLOT_RUNNING ||
        !(side == SIDE_REAPER ? wait_for(core, pipid) : wait_for_plain(core, pipid)))
        return false;
    mark_ended(core, pipid);
    return true;
}

/* Tasks that wait for its exports or its locks, and the spawner, which may wait for it to load. */
void ending_tell(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);

    atomic_fetch_add(&slot->peer.ends, 1);
    shared_futex_wake(&slot->peer.ends, INT32_MAX);
    peer_announce(core->control, &slot->peer);
    if (shared_loads_wanted(core->control))
        shared_wake_spawner(core->control);
}

/* ---- The client's epoll ----------------------------------------------------------------------- */

int ending_make_epoll(int event_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = POSTED_MARK};
    int epoll = descriptor_take(epoll_create1(EPOLL_CLOEXEC));

    if (epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, event_fd, &event) < 0) {
        int error = errno;
        close(epoll);
        return -error;
    }
    return epoll;
}

/* Under the lock: the client may be closed just now. */
static int epoll_of(struct core *core, int32_t pipid)
{
    const struct aiopip_client *client = core->tasks[pipid].client;

    return client ? client->epolls[SIDE_REAPER] : -1;
}

/* Where it cannot be done, the reaper alone sees the end. */
bool ending_watch(struct core *core, int32_t pipid, int pidfd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = (uint64_t)pipid};

    core_lock(core);
    int epoll = epoll_of(core, pipid);
    bool watched = epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd, &event) == 0;
    core_unlock(core, SIDE_REAPER);
    return watched;
}

void ending_unwatch(struct core *core, int32_t pipid, int pidfd)
{
    core_lock(core);
    if (epoll_of(core, pipid) >= 0)
        epoll_ctl(epoll_of(core, pipid), EPOLL_CTL_DEL, pidfd, NULL);
    core_unlock(core, SIDE_REAPER);
}

int ending_take(const struct aiopip_client *client, int32_t pipids[ENDINGS_AT_ONCE])
{
    struct epoll_event events[ENDINGS_AT_ONCE];
    int taken = 0;
    int count = epoll_wait(client->epolls[SIDE_PROCESS], events, ENDINGS_AT_ONCE, 0);

    for (int i = 0; i < count; i++)
        if (events[i].data.u64 != POSTED_MARK)
            pipids[taken++] = (int32_t)events[i].data.u64;
    return taken;
}
