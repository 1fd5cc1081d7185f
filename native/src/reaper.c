/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reaper.c: the thread that learns of ends, and gives memory back.
 *
 * It waits in one epoll for the tasks' pidfds, which come from the spawner through a socket, reaps,
 * and reports (waiting.c) before it gives memory back (reclaim.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kill_points.h"
#include "reaper.h"
#include "warm.h"

#define EVENTS_AT_ONCE 64
#define CONTROL_MARK UINT64_MAX
#define PIDFD_NONE (-1)
#define UNWATCHED_WAIT_MS 10
#define NO_MEMORY_WAIT_MS 1
#define LATE_NS 500000UL /* for so long an end is left to the client */
#define LATE_WAIT_MS 1
#define SLOTS_MANY 64
#define STOP_WAIT_NS 1000000000UL /* for orphans, when the core is closed */

/* ---- From the spawner ------------------------------------------------------------------------- */

int reaper_tell(struct core *core, enum reaper_order order, int32_t pipid, int descriptor)
{
    struct reaper_message message = {order, pipid};
    struct iovec part = {&message, sizeof message};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (descriptor >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(first), &descriptor, sizeof descriptor);
    }
    while (sendmsg(core->reaper_socket, &header, MSG_NOSIGNAL) < 0) {
        if (errno == EPIPE || errno == ECONNRESET)
            return -errno;
        if (errno == EINTR)
            continue;
        /* Too many descriptors under way, or no memory: the reaper opens a descriptor of its own.
         * Without one, memory is all that can be missing, and the message must not be lost. */
        if (!header.msg_control)
            poll(NULL, 0, NO_MEMORY_WAIT_MS);
        header.msg_control = NULL;
        header.msg_controllen = 0;
    }
    return 0;
}

/* No descriptor to watch it with, or one that says what waitid does not. */
static void ask_by_timer(struct reaper *reaper, int32_t pipid)
{
    if (!reaper->core->tasks[pipid].asked)
        reaper->unwatched++;
    reaper->core->tasks[pipid].asked = true;
}

static void watch(struct reaper *reaper, int32_t pipid, int pidfd)
{
    struct core *core = reaper->core;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = (uint64_t)pipid};

    reaper->watched++;
    if (pidfd < 0)
        pidfd = (int)sys2(SYS_pidfd_open, core->tasks[pipid].pid, 0);
    if (pidfd >= 0 && epoll_ctl(core->epoll, EPOLL_CTL_ADD, pidfd, &event) == 0) {
        core->pidfds[pipid] = pidfd;
        core->tasks[pipid].watched_by_client = ending_watch(core, pipid, pidfd);
        return;
    }
    if (pidfd >= 0)
        close(pidfd);
    ask_by_timer(reaper, pipid);
}

static int receive(struct core *core, struct reaper_message *message, int *descriptor)
{
    struct iovec part = {message, sizeof *message};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};

    *descriptor = -1;
    ssize_t got = recvmsg(core->control_socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got != sizeof *message)
        return 0;
    struct cmsghdr *first = CMSG_FIRSTHDR(&header);
    if (first && first->cmsg_type == SCM_RIGHTS && first->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(descriptor, CMSG_DATA(first), sizeof *descriptor);
    return 1;
}

/* What stood against giving a slot's memory back may be gone. */
static void take_looks(struct reaper *reaper)
{
    struct core *core = reaper->core;

    for (uint32_t i = 0; i < (core->control->max_tasks + 63) / 64; i++) {
        uint64_t bits = atomic_exchange(&core->control->looks[i], 0);
        for (; bits; bits &= bits - 1) {
            int32_t pipid = (int32_t)(i * 64) + __builtin_ctzll(bits);
            core_lock(core);
            if (core->tasks[pipid].aside) {
                core->tasks[pipid].aside = false;
                list_push(core, &reaper->ready, pipid);
            }
            core_unlock(core, SIDE_REAPER);
        }
    }
}

static void take_orders(struct reaper *reaper)
{
    struct reaper_message message;
    int descriptor;

    while (receive(reaper->core, &message, &descriptor))
        switch ((enum reaper_order)message.order) {
        case REAPER_WATCH:
            watch(reaper, message.pipid, descriptor);
            break;
        case REAPER_LOOK:
            take_looks(reaper);
            break;
        case REAPER_CLIENTS:
            core_sync_clients(reaper->core, SIDE_REAPER, reaper->core->reaper_self_pidfd);
            break;
        case REAPER_STOP:
            reaper->stopping = true;
            break;
        }
}

/* ---- Reaping ---------------------------------------------------------------------------------- */

static void stop_watching(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;

    if (core->pidfds[pipid] >= 0) {
        ending_unwatch(core, pipid, core->pidfds[pipid]);
        /* A child by fork may have a copy of it: then closing alone leaves it in the epoll. */
        epoll_ctl(core->epoll, EPOLL_CTL_DEL, core->pidfds[pipid], NULL);
        close(core->pidfds[pipid]);
    }
    core->pidfds[pipid] = PIDFD_NONE;
    reaper->unwatched -= core->tasks[pipid].asked;
}

/* Reap a task if it has ended, and report that; its client may have been quicker. */
static void reap(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];

    core_lock(core);
    bool found = ending_look(core, pipid, SIDE_REAPER);
    bool ended = found || atomic_load(&slot->state) == SLOT_ENDED;
    if (ended) {
        task->collected = true;
        reaper->watched--;
        list_push(core,
                  atomic_load(&slot->quiet) || task->failed ? &reaper->ready : &reaper->suspects,
                  pipid);
    }
    core_unlock(core, SIDE_REAPER);
    if (!ended) {
        /* A tracer holds it back. */
        if (core->pidfds[pipid] >= 0 && !task->asked)
            epoll_ctl(core->epoll, EPOLL_CTL_DEL, core->pidfds[pipid], NULL);
        ask_by_timer(reaper, pipid);
        return;
    }
    stop_watching(reaper, pipid);
    if (found)
        ending_tell(core, pipid);
}

/* Leave an end to the client for a moment: it is on its way, too, and would have to wait for the lock, or
 * for us to wake it.  Not where slots may become short, which are taken from the lowest on, nor where the
 * same one is waited for. */
static bool put_off(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;

    if (!core->tasks[pipid].watched_by_client || core->control->max_tasks < SLOTS_MANY ||
        (uint32_t)pipid > core->control->max_tasks / 2 || atomic_load(&core->probing))
        return false;
    if (reaper->late.first == NO_TASK)
        reaper->late_due_ns = core_now_ns() + LATE_NS;
    list_push(core, &reaper->late, pipid);
    return true;
}

static void reap_late(struct reaper *reaper)
{
    if (reaper->late.first == NO_TASK || core_now_ns() < reaper->late_due_ns)
        return;
    for (int32_t pipid; (pipid = list_pop(reaper->core, &reaper->late)) != NO_TASK;)
        reap(reaper, pipid);
}

static void ask_unwatched(struct reaper *reaper)
{
    struct core *core = reaper->core;

    for (uint32_t i = 0; i < core->control->max_tasks && reaper->unwatched > 0; i++)
        if (core->tasks[i].asked && !core->tasks[i].collected)
            reap(reaper, (int32_t)i);
}

/* ---- The thread ------------------------------------------------------------------------------- */

static int timeout_of(const struct reaper *reaper)
{
    if (reaper->ready.first != NO_TASK)
        return 0;
    if (reaper->late.first != NO_TASK)
        return LATE_WAIT_MS;
    int wait_ms = warm_patience_ms(reaper->core);
    int other_ms = reaper->suspects.first != NO_TASK ? reaper->look_wait_ms
                   : reaper->unwatched > 0           ? UNWATCHED_WAIT_MS
                                                     : -1;
    return other_ms >= 0 && (wait_ms < 0 || other_ms < wait_ms) ? other_ms : wait_ms;
}

/* Before it stops, when all tasks have ended, it learns of all ends, for clients may have been quicker, and
 * gives back what it can: a second is more than an exec takes. */
static bool has_work(const struct reaper *reaper)
{
    int32_t suspect = reaper->suspects.first;

    return reaper->watched > 0 || reaper->ready.first != NO_TASK ||
           (suspect != NO_TASK &&
            core_now_ns() - reaper->core->tasks[suspect].ended_ns < STOP_WAIT_NS);
}

static void take_call(struct core *core)
{
    core_lock(core);
    core_post_called(core);
    core_unlock(core, SIDE_REAPER);
}

static void watch_ends(struct reaper *reaper)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!reaper->stopping || has_work(reaper)) {
        int count = epoll_wait(reaper->core->epoll, events, EVENTS_AT_ONCE, timeout_of(reaper));
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 == CONTROL_MARK)
                take_orders(reaper);
            else if (events[i].data.u64 == REAPER_CALL_MARK)
                take_call(reaper->core);
            else if (!put_off(reaper, (int32_t)events[i].data.u64))
                reap(reaper, (int32_t)events[i].data.u64);
        reap_late(reaper);
        if (reaper->unwatched > 0)
            ask_unwatched(reaper);
        if (count < EVENTS_AT_ONCE)
            reclaim_one(reaper);
    }
}

/* A table of our own with nothing in it but our end of the socket. */
static int start_reaper(struct core *core)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = CONTROL_MARK};

    prctl(PR_SET_NAME, "aiopip-reaper");
    if (core->private_descriptors) {
        unsigned keep = (unsigned)core->control_socket;
        /* The first call makes the copy: nothing is closed that the spawner has. */
        if (sys3(SYS_close_range, keep + 1, 0xffffffffL, KERNEL_CLOSE_RANGE_UNSHARE) < 0 ||
            (keep > 3 && sys3(SYS_close_range, 3, keep - 1, 0) < 0))
            return -errno;
        core->reaper_self_pidfd = (int)sys2(SYS_pidfd_open, core->pid, 0);
        if (core->reaper_self_pidfd < 0)
            return core->reaper_self_pidfd;
    }
    core->epoll = descriptor_take(epoll_create1(EPOLL_CLOEXEC));
    if (core->epoll < 0)
        return core->epoll;
    return epoll_ctl(core->epoll, EPOLL_CTL_ADD, core->control_socket, &event) < 0 ? -errno : 0;
}

void *reaper_main(void *argument)
{
    struct reaper reaper = {
        .core = argument, .suspects = {NO_TASK}, .ready = {NO_TASK}, .late = {NO_TASK}};
    struct core *core = argument;
    int socket = core->control_socket, result = start_reaper(core);

    core_lock(core);
    core->start_error = result < 0 ? result : core->start_error;
    core->threads_ready++;
    pthread_cond_broadcast(&core->changed);
    core_unlock(core, SIDE_REAPER);
    if (result == 0)
        watch_ends(&reaper);
    if (core->epoll >= 0)
        close(core->epoll);
    if (core->reaper_self_pidfd >= 0)
        close(core->reaper_self_pidfd);
    if (core->reaper_maps >= 0)
        close(core->reaper_maps);
    if (core->reaper_pagemap >= 0)
        close(core->reaper_pagemap);
    close(socket);
    return NULL;
}
