/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reaper.c: the thread that learns of ends, and gives memory back.
 *
 * It waits in one epoll for the tasks' pidfds, which come from the spawner through a socket, reaps,
 * and reports before it touches memory.  Memory goes when nothing stands against it:
 *
 *   - an import holds it: the root's are counted under the lock; a task's are in its hold table.
 *     A task writes its hold, then checks that the exporter runs; we mark the end, then read the
 *     tables (all sequentially consistent): one of us sees the other.
 *   - the client has not acknowledged the end of a task that exported something;
 *   - a process that the task made by vfork or posix_spawn may still run on it (orphans.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

#define EVENTS_AT_ONCE 64
#define CONTROL_MARK UINT64_MAX
#define NO_TASK (-1)
#define PIDFD_NONE (-1)
#define UNWATCHED_WAIT_MS 10
#define NO_MEMORY_WAIT_MS 1
#define LOOK_WAIT_MAX_MS 64
#define ORPHANS_MAX 64
#define BLIND_WAIT_NS 100000000UL /* before unmapping, where orphans cannot be looked for */
#define STOP_WAIT_NS 1000000000UL /* for orphans, when the core is closed */
#define STOLEN_WAIT_NS 1000000000UL
#define STATUS_LOST 0xff00 /* exited with 255, as asyncio has it */

/* Ended tasks, linked by task->next. */
struct list {
    int32_t first;
};

/* A process on a dead task's memory.  It was an orphan when it was first seen, so what ended later
 * was not its parent. */
struct orphan {
    pid_t pid;
    uint64_t first_seen_ns;
};

/* The reaper's own state. */
struct reaper {
    struct core *core;
    struct list suspects;               /* a child by vfork may run on their memory */
    struct list ready;                  /* to be unmapped, unless an import stands against it */
    struct list held;                   /* an import did */
    uint32_t unwatched;                 /* tasks that are asked one by one */
    struct orphan orphans[ORPHANS_MAX]; /* those of the last look */
    int orphan_count;
    int look_wait_ms; /* between looks for orphans, while some stand against a suspect */
    uint64_t next_look_ns;
    bool stopping;
};

static void list_push(struct core *core, struct list *list, int32_t pipid)
{
    core->tasks[pipid].next = list->first;
    list->first = pipid;
}

static int32_t list_pop(struct core *core, struct list *list)
{
    int32_t pipid = list->first;

    if (pipid != NO_TASK)
        list->first = core->tasks[pipid].next;
    return pipid;
}

static void list_move(struct core *core, struct list *from, struct list *to)
{
    for (int32_t pipid; (pipid = list_pop(core, from)) != NO_TASK;)
        list_push(core, to, pipid);
}

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
    ssize_t sent;

    if (descriptor >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(first), &descriptor, sizeof descriptor);
    }
    while ((sent = sendmsg(core->reaper_socket, &header, MSG_NOSIGNAL)) < 0) {
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
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)pipid};

    if (pidfd < 0)
        pidfd = (int)sys2(SYS_pidfd_open, core->tasks[pipid].pid, 0);
    if (pidfd >= 0 && epoll_ctl(core->epoll, EPOLL_CTL_ADD, pidfd, &event) == 0) {
        core->pidfds[pipid] = pidfd;
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
            list_move(reaper->core, &reaper->held, &reaper->ready);
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

static int status_of(const siginfo_t *information)
{
    if (information->si_code == CLD_EXITED)
        return (information->si_status & 0xff) << 8;
    return (information->si_status & 0x7f) | (information->si_code == CLD_DUMPED ? 0x80 : 0);
}

/* Another waitid has taken the status: the kernel still tells it through the pidfd, since 6.15, as
 * soon as that call has done with the zombie; before, it is lost.  False: ask again. */
static bool ask_pidfd(struct core *core, int32_t pipid, int *status, bool *lost)
{
    struct kernel_pidfd_info info = {.mask = KERNEL_PIDFD_INFO_EXIT};
    struct task *task = &core->tasks[pipid];
    uint64_t now = core_now_ns();

    bool asked =
        core->pidfds[pipid] >= 0 && ioctl(core->pidfds[pipid], KERNEL_PIDFD_GET_INFO, &info) == 0;
    if (asked && info.mask & KERNEL_PIDFD_INFO_EXIT) {
        *status = info.exit_code;
        return true;
    }
    task->stolen_ns = task->stolen_ns ? task->stolen_ns : now;
    if (asked && now - task->stolen_ns < STOLEN_WAIT_NS)
        return false;
    *status = STATUS_LOST;
    *lost = true;
    return true;
}

/* waitid of a task.  Without KERNEL_WALL it knows children whose exit signal is SIGCHLD, which is a
 * task's only after an execve. */
static long wait_as(struct core *core, int32_t pipid, int kind, siginfo_t *information,
                    struct rusage *usage)
{
    int pidfd = core->pidfds[pipid];
    long result;

    do
        result = sys5(SYS_waitid, pidfd >= 0 ? KERNEL_P_PIDFD : P_PID,
                      pidfd >= 0 ? pidfd : core->tasks[pipid].pid, (long)(uintptr_t)information,
                      WEXITED | WNOHANG | kind, (long)(uintptr_t)usage);
    while (result == -EINTR);
    return result;
}

/* Wait, and fill in how it ended.  False when the task has not ended, or is a zombie that a tracer
 * has not waited for.  One that has exec'ed is a child as any other: another waitpid(-1) may have
 * been quicker. */
static bool wait_for(struct core *core, int32_t pipid)
{
    struct task *task = &core->tasks[pipid];
    siginfo_t information = {0};

    long result = wait_as(core, pipid, 0, &information, &task->usage);
    task->left = result == 0;
    if (result == -ECHILD)
        result = wait_as(core, pipid, KERNEL_WALL, &information, &task->usage);
    if (result == -ECHILD) {
        task->left = true;
        return ask_pidfd(core, pipid, &task->wait_status, &task->status_lost);
    }
    if (result < 0 || information.si_pid == 0)
        return false;
    task->wait_status = status_of(&information);
    return true;
}

/* Mark the end and post it.  Under the lock. */
static void mark_ended(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];

    task->ended_ns = core_now_ns();
    task->failed = atomic_load(&slot->started) == TASK_STARTED_FAILED;
    task->acknowledged = task->failed || (!atomic_load(&slot->interest) &&
                                          !atomic_load(&slot->block->exports.count));
    task->memory = MEMORY_PENDING;
    list_push(core, atomic_load(&slot->quiet) || task->failed ? &reaper->ready : &reaper->suspects,
              pipid);
    if (task->failed) {
        program_fail(&task->failure, (enum aiopip_failure)atomic_load(&slot->failure), 0, "%s",
                     slot->block->start.cwd ? slot->block->start.cwd : "");
        task->error = atomic_load(&slot->error);
        core->failed++;
    } else if (!task->announced) {
        task->announced = true;
        core_post(core, pipid, AIOPIP_EVENT_STARTED);
    }
    core->alive--;
    core->ended++;
    core->unloaded += atomic_load(&slot->loaded) == TASK_LOADED_NOT && !task->failed;
    if (task->client)
        task->client->alive--;
    atomic_store(&slot->state, SLOT_ENDED);
    core_post(core, pipid, task->failed ? AIOPIP_EVENT_FAILED : AIOPIP_EVENT_EXITED);
    pthread_cond_broadcast(&core->changed);
}

static void stop_watching(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;

    if (core->pidfds[pipid] >= 0) {
        /* A child by fork may have a copy of it: then closing alone leaves it in the epoll. */
        epoll_ctl(core->epoll, EPOLL_CTL_DEL, core->pidfds[pipid], NULL);
        close(core->pidfds[pipid]);
    }
    core->pidfds[pipid] = PIDFD_NONE;
    reaper->unwatched -= core->tasks[pipid].asked;
}

/* Reap a task if it has ended, and report that. */
static void reap(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;
    struct slot *slot = core_slot(core, pipid);
    struct task *task = &core->tasks[pipid];

    /* In one piece under the lock: aiopip_kill trusts that a running task's PID is not free yet. */
    core_lock(core);
    bool ended = wait_for(core, pipid);
    if (ended)
        mark_ended(reaper, pipid);
    core_unlock(core, SIDE_REAPER);
    if (!ended) {
        /* A tracer holds it back: the descriptor would say so without end. */
        if (core->pidfds[pipid] >= 0 && !task->asked)
            epoll_ctl(core->epoll, EPOLL_CTL_DEL, core->pidfds[pipid], NULL);
        ask_by_timer(reaper, pipid);
        return;
    }
    stop_watching(reaper, pipid);
    /* What this task held may go, if nobody else holds it. */
    list_move(core, &reaper->held, &reaper->ready);
    /* Tasks that wait for its exports, and the spawner, which may wait for it to load. */
    shared_ring_doorbell(&slot->doorbell);
    shared_wake_spawner(core->control);
}

static void ask_unwatched(struct reaper *reaper)
{
    struct core *core = reaper->core;

    for (uint32_t i = 0; i < core->control->max_tasks && reaper->unwatched > 0; i++)
        if (core->tasks[i].asked &&
            atomic_load(&core_slot(core, (int32_t)i)->state) == SLOT_RUNNING)
            reap(reaper, (int32_t)i);
}

/* ---- Giving memory back ----------------------------------------------------------------------- */

/* Whether a task that runs holds the memory of a slot.  Under the lock. */
static bool held_by_tasks(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);

    if (!atomic_load(&slot->held))
        return false;
    uint64_t generation = atomic_load(&slot->generation);
    for (uint32_t i = 0; i < core->control->max_tasks; i++) {
        struct slot *importer = core_slot(core, (int32_t)i);
        if (atomic_load(&importer->state) != SLOT_RUNNING)
            continue;
        uint64_t hold = atomic_load(&importer->block->holds[pipid]);
        if (hold & SHARED_HOLD_COUNT && hold >> SHARED_HOLD_SHIFT == generation)
            return true;
    }
    return false;
}

/* Unmap what a task left, or put it aside while an import stands against it. */
static void reclaim(struct reaper *reaper, int32_t pipid)
{
    struct core *core = reaper->core;
    struct task *task = &core->tasks[pipid];

    core_lock(core);
    bool held = task->holds > 0 || !task->acknowledged || held_by_tasks(core, pipid);
    task->memory = held ? MEMORY_HELD : MEMORY_UNMAPPING;
    if (held)
        core_settle(core, pipid);
    core_unlock(core, SIDE_REAPER);
    if (held) {
        list_push(core, &reaper->held, pipid);
        return;
    }
    int stuck = window_unmap(core->control, pipid);
    core_lock(core);
    task->memory = stuck ? MEMORY_STUCK : MEMORY_NONE;
    core_settle(core, pipid);
    core_unlock(core, SIDE_REAPER);
    if (stuck)
        atomic_fetch_add(&core->control->untracked, 1);
}

/* Keep what is known of orphans that are still there, and when others were first seen. */
static void remember_orphans(struct reaper *reaper, const pid_t *pids, int count)
{
    struct orphan known[ORPHANS_MAX];
    uint64_t now = core_now_ns();

    for (int i = 0; i < count; i++) {
        known[i] = (struct orphan){pids[i], now};
        for (int j = 0; j < reaper->orphan_count; j++)
            if (reaper->orphans[j].pid == pids[i])
                known[i] = reaper->orphans[j];
    }
    memcpy(reaper->orphans, known, (size_t)count * sizeof *known);
    reaper->orphan_count = count;
}

/* Whether an orphan may run on the memory of a task that ended then. */
static bool is_suspect(const struct reaper *reaper, int found, uint64_t ended_ns)
{
    if (found < 0) /* blind: it must do that an exec takes less */
        return core_now_ns() - ended_ns < BLIND_WAIT_NS;
    if (found > ORPHANS_MAX)
        return true;
    for (int i = 0; i < reaper->orphan_count; i++)
        if (reaper->orphans[i].first_seen_ns > ended_ns)
            return true;
    return false;
}

/* One look serves all that have ended by now. */
static void clear_suspects(struct reaper *reaper)
{
    struct core *core = reaper->core;
    struct list suspects = reaper->suspects;
    pid_t pids[ORPHANS_MAX];
    int found = orphans_find(core, pids, ORPHANS_MAX);

    remember_orphans(reaper, pids, found < 0 ? 0 : found > ORPHANS_MAX ? ORPHANS_MAX : found);
    reaper->suspects.first = NO_TASK;
    for (int32_t pipid; (pipid = list_pop(core, &suspects)) != NO_TASK;) {
        bool suspect = is_suspect(reaper, found, core->tasks[pipid].ended_ns);
        list_push(core, suspect ? &reaper->suspects : &reaper->ready, pipid);
    }
    if (reaper->suspects.first == NO_TASK) {
        reaper->look_wait_ms = 0;
        return;
    }
    core_lock(core);
    core->orphan_waits++;
    core_unlock(core, SIDE_REAPER);
    reaper->look_wait_ms = reaper->look_wait_ms ? 2 * reaper->look_wait_ms : 1;
    if (reaper->look_wait_ms > LOOK_WAIT_MAX_MS)
        reaper->look_wait_ms = LOOK_WAIT_MAX_MS;
    reaper->next_look_ns = core_now_ns() + (uint64_t)reaper->look_wait_ms * 1000000UL;
}

/* Give back what one task left: between two of them ends are looked for. */
static void reclaim_one(struct reaper *reaper)
{
    int32_t pipid = list_pop(reaper->core, &reaper->ready);

    if (pipid != NO_TASK)
        reclaim(reaper, pipid);
    else if (reaper->suspects.first != NO_TASK &&
             (!reaper->look_wait_ms || core_now_ns() >= reaper->next_look_ns))
        clear_suspects(reaper);
}

/* ---- The thread ------------------------------------------------------------------------------- */

static int timeout_of(const struct reaper *reaper)
{
    if (reaper->ready.first != NO_TASK)
        return 0;
    if (reaper->suspects.first != NO_TASK)
        return reaper->look_wait_ms;
    return reaper->unwatched > 0 ? UNWATCHED_WAIT_MS : -1;
}

/* Before it stops, it gives back what it can: a second is more than an exec takes. */
static bool has_work(const struct reaper *reaper)
{
    int32_t suspect = reaper->suspects.first;

    return reaper->ready.first != NO_TASK ||
           (suspect != NO_TASK &&
            core_now_ns() - reaper->core->tasks[suspect].ended_ns < STOP_WAIT_NS);
}

static void watch_ends(struct reaper *reaper)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!reaper->stopping || has_work(reaper)) {
        int count = epoll_wait(reaper->core->epoll, events, EVENTS_AT_ONCE, timeout_of(reaper));
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 == CONTROL_MARK)
                take_orders(reaper);
            else
                reap(reaper, (int32_t)events[i].data.u64);
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
        .core = argument, .suspects = {NO_TASK}, .ready = {NO_TASK}, .held = {NO_TASK}};
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
    close(socket);
    return NULL;
}
