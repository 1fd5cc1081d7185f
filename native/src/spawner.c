/* SPDX-License-Identifier: BSD-2-Clause
 *
 * spawner.c: the thread that makes all tasks.
 *
 * One thread, since a task is killed when the thread that cloned it ends (PR_SET_PDEATHSIG); with a
 * descriptor table of its own, since clone copies the table; and in turn, since tasks that load at
 * once get into each other's way (they share one mmap_lock, and every mprotect interrupts the other
 * processors).  It sleeps on control->spawner_word, and looks at everything when woken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core.h"
#include "warm.h"

#define LOADING_MAX 1                  /* tasks that may load at once */
#define LOADING_PATIENCE_NS 20000000UL /* one that takes longer is not waited for */

/* ---- Looking around --------------------------------------------------------------------------- */

/* One that left by execve has no loading to wait for. */
static bool has_left(struct core *core, int32_t pipid)
{
    return core_slot(core, pipid)->block->start.exec != NULL;
}

static bool starts_stopped(struct core *core, int32_t pipid)
{
    return core_slot(core, pipid)->block->start.flags & AIOPIP_SPAWN_STOPPED;
}

/* A task has applied its options.  One that shall be stopped waits at its gate, in its own code, and is
 * sent SIGSTOP first, then the gate is opened, then the client is told of it:
 *
 *   child     STARTED_DONE   waits . . . . . . . . . . . . .   goes on, and stops
 *   spawner                  kill(SIGSTOP)   opens the gate   STARTED
 *   client                                                              kill(SIGCONT)
 *
 * The signal is pending from the kill on.  So whatever SIGCONT the client sends comes behind it: it
 * wakes the child, or, when that has not come to stop yet, takes the SIGSTOP away.  If the child sent
 * it to itself, a SIGCONT could come first and do nothing, and the child would sleep for ever.  If
 * there were no gate, the child would be in its program by the time of the kill.  Under the lock. */
static void announce(struct core *core, int32_t pipid)
{
    struct task_block *block = core_slot(core, pipid)->block;

    if (starts_stopped(core, pipid) && !atomic_load(&block->gate)) {
        kill(core->tasks[pipid].pid, SIGSTOP);
        atomic_store(&block->gate, 1);
        shared_futex_wake(&block->gate, 1);
    }
    core_announce(core, pipid);
}

/* Tell clients of tasks that have started, and let go of those that have loaded or ended.  *busy:
 * how many are still young enough to be waited for; returns the nanoseconds until the next of them
 * is not, or 0. */
static uint64_t check_loading(struct core *core, uint32_t *busy)
{
    uint64_t now = core_now_ns(), soonest = 0;

    *busy = 0;
    core_lock(core);
    for (uint32_t i = 0; i < core->loading_count;) {
        int32_t pipid = core->loading[i].pipid;
        struct slot *slot = core_slot(core, pipid);
        uint64_t age = now - core->loading[i].since_ns;
        bool running = atomic_load(&slot->state) == SLOT_RUNNING;
        bool started =
            atomic_load_explicit(&slot->started, memory_order_acquire) == TASK_STARTED_DONE;
        bool loaded = atomic_load(&slot->loaded) != TASK_LOADED_NOT;
        if (running && started)
            announce(core, pipid);
        /* One that ended is announced by the reaper.  One that is stopped does not load, and when it
         * goes on it is not waited for: nobody knows when that will be. */
        if (!running || (started && (loaded || age >= LOADING_PATIENCE_NS ||
                                     starts_stopped(core, pipid) || has_left(core, pipid)))) {
            core->loading[i] = core->loading[--core->loading_count];
            continue;
        }
        if (age < LOADING_PATIENCE_NS) {
            uint64_t left = LOADING_PATIENCE_NS - age;
            soonest = soonest && soonest < left ? soonest : left;
            ++*busy;
        }
        i++;
    }
    core_unlock(core, SIDE_SPAWNER);
    return soonest;
}

/* Tasks have exported what somebody waits for.  Their bits are taken under the lock: the reaper finds
 * them when it reports an end, or they have become events by then. */
static void check_attention(struct core *core)
{
    struct control *control = core->control;

    for (uint32_t i = 0; i < (control->max_tasks + 63) / 64; i++) {
        if (!atomic_load_explicit(&control->attention[i], memory_order_relaxed))
            continue;
        core_lock(core);
        uint64_t bits = atomic_exchange(&control->attention[i], 0);
        for (; bits; bits &= bits - 1) {
            int32_t pipid = (int32_t)(i * 64) + __builtin_ctzll(bits);
            if (atomic_load(&core_slot(core, pipid)->state) == SLOT_RUNNING)
                core_post_export(core, pipid);
        }
        core_unlock(core, SIDE_SPAWNER);
    }
}

static bool requests_wait(struct core *core)
{
    core_lock(core);
    bool waiting = core->queue_head != NULL;
    core_unlock(core, SIDE_SPAWNER);
    return waiting;
}

static struct request *next_request(struct core *core)
{
    struct request *request = NULL;

    core_lock(core);
    if (core->loading_count < CORE_LOADING && core->queue_head) {
        request = core->queue_head;
        core->queue_head = request->next;
        if (!core->queue_head)
            core->queue_tail = &core->queue_head;
    }
    core_unlock(core, SIDE_SPAWNER);
    return request;
}

/* Requests that were given up while they wait: they fail at once, whatever loads. */
static struct request *next_cancelled(struct core *core)
{
    struct request *request = NULL;

    core_lock(core);
    for (struct request **at = &core->queue_head; *at && !request;) {
        if (!core->tasks[(*at)->pipid].cancelled) {
            at = &(*at)->next;
            continue;
        }
        request = *at;
        *at = request->next;
        if (!*at)
            core->queue_tail = at;
    }
    core_unlock(core, SIDE_SPAWNER);
    return request;
}

static bool take_flag(_Atomic uint32_t *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed) && atomic_exchange(flag, 0);
}

/* What clients, and peers, have asked for by flags.  True when the core is being closed. */
static bool check_flags(struct core *core)
{
    struct request *request;

    core_lock(core);
    bool clients = core->clients_changed;
    bool cancelled = core->requests_cancelled, stopping = core->stopping;
    core->clients_changed = core->requests_cancelled = false;
    if (take_flag(&core->control->releases))
        core_post_released(core);
    core_unlock(core, SIDE_SPAWNER);
    if (clients) {
        core_sync_clients(core, SIDE_SPAWNER, core->self_pidfd);
        reaper_tell(core, REAPER_CLIENTS, -1, -1);
    }
    if (atomic_exchange(&core->warm_is_idle, false))
        warm_drop_idle(core);
    if (take_flag(&core->control->looks_wanted))
        reaper_tell(core, REAPER_LOOK, -1, -1);
    while (cancelled && (request = next_cancelled(core)) != NULL) {
        start_task(core, request);
        free(request);
    }
    return stopping;
}

static void look_around(struct core *core)
{
    struct control *control = core->control;
    uint32_t busy;

    for (;;) {
        uint32_t word = atomic_load(&control->spawner_word);
        bool stopping = check_flags(core);
        bool waiting = requests_wait(core);
        atomic_store(&control->loads_wanted, waiting);
        uint64_t patience_ns = check_loading(core, &busy);
        check_attention(core);
        struct request *request = busy < LOADING_MAX ? next_request(core) : NULL;
        if (request) {
            start_task(core, request);
            free(request);
            continue;
        }
        if (stopping)
            return;
        struct timespec timeout = {(time_t)(patience_ns / 1000000000UL),
                                   (long)(patience_ns % 1000000000UL)};
        shared_futex_wait(&control->spawner_word, word, waiting && patience_ns ? &timeout : NULL);
    }
}

/* ---- The thread ------------------------------------------------------------------------------- */

/* A table of our own, with nothing in it but placeholders at 0 to 2; where the kernel does not let
 * us fetch from the process's table, that one stays. */
static int take_private_table(struct core *core)
{
    core->self_pidfd = (int)sys2(SYS_pidfd_open, core->pid, 0);
    if (core->self_pidfd < 0)
        return core->self_pidfd;
    long probe = sys3(SYS_pidfd_getfd, core->self_pidfd, core->self_pidfd, 0);
    if (probe < 0)
        return 0;
    close((int)probe);
    close(core->self_pidfd);
    core->private_descriptors =
        sys3(SYS_close_range, 0, 0xffffffffL, KERNEL_CLOSE_RANGE_UNSHARE) == 0;
    for (int i = 0; i < 3 && core->private_descriptors; i++)
        if (open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
            return -errno;
    core->self_pidfd = descriptor_take((int)syscall(SYS_pidfd_open, core->pid, 0));
    return core->self_pidfd < 0 ? core->self_pidfd : 0;
}

/* ld.so takes the preload's path for a list that is split at blanks and colons: one that has any is
 * named by this thread's descriptor of it. */
static int name_preload(struct core *core)
{
    char name[64], *path;

    if (!strpbrk(core->preload, " :"))
        return 0;
    core->preload_fd = descriptor_take(open(core->preload, O_RDONLY | O_CLOEXEC));
    if (core->preload_fd < 0)
        return core->preload_fd;
    snprintf(name, sizeof name, "/proc/%d/task/%d/fd/%d", core->pid, gettid(), core->preload_fd);
    path = strdup(name);
    if (!path)
        return -ENOMEM;
    free(core->preload);
    core->preload = path;
    return 0;
}

static int start_spawner(struct core *core)
{
    int sockets[2];
    long kcmp = sys5(SYS_kcmp, core->pid, core->pid, KERNEL_KCMP_VM, 0, 0);

    prctl(PR_SET_NAME, "aiopip-spawner");
    core->has_clone3 = true; /* until it says otherwise */
    core->has_kcmp = kcmp == 0;
    core->tracked = true;
    int result = attributes_read(&core->spawner_attributes);
    if (result == 0)
        result = take_private_table(core);
    if (result == 0)
        result = name_preload(core);
    if (result < 0)
        return result;
    core->libc_pages = libc_pages_make(core);
    core->maps = descriptor_take(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    core->reaper_socket = descriptor_take(sockets[0]);
    core->control_socket = descriptor_take(sockets[1]);
    if (core->reaper_socket < 0 || core->control_socket < 0)
        return -EMFILE;
    result = -pthread_create(&core->reaper, NULL, reaper_main, core);
    if (result < 0)
        close(sockets[1]);
    return result;
}

static void close_descriptors(struct core *core)
{
    image_free_all(core->images);
    if (core->preload_fd >= 0)
        close(core->preload_fd);
    if (core->libc_pages >= 0)
        close(core->libc_pages);
    if (core->self_pidfd >= 0)
        close(core->self_pidfd);
    if (core->maps >= 0)
        close(core->maps);
    if (core->reaper_socket >= 0)
        close(core->reaper_socket);
}

void *spawner_main(void *argument)
{
    struct core *core = argument;
    int result = start_spawner(core);

    core_lock(core);
    core->start_error = result < 0 ? result : core->start_error;
    core->threads_ready++;
    pthread_cond_broadcast(&core->changed);
    core_unlock(core, SIDE_SPAWNER);
    if (result == 0) {
        look_around(core);
        stops_end(core);
        cloner_end(core);
        reaper_tell(core, REAPER_STOP, -1, -1);
        pthread_join(core->reaper, NULL);
        warm_drop_idle(core);
    }
    close_descriptors(core);
    return NULL;
}
