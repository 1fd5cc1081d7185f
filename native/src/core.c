/* SPDX-License-Identifier: BSD-2-Clause
 *
 * core.c: opening and closing the core and its clients.
 */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "exports.h"
#include "ledger.h"
#include "warm.h"

/* The one core of the process; its lock guards the pointer too. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static struct core *the_core;
static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;

uint64_t core_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000UL + (uint64_t)now.tv_nsec;
}

void core_lock(struct core *core)
{
    pthread_mutex_lock(&core->lock);
}

void core_unlock(struct core *core, enum core_side side)
{
    const uint64_t one = 1;

    for (struct aiopip_client *client = core->clients; client; client = client->next) {
        if (!client->needs_kick || client->event_fds[side] < 0)
            continue;
        client->needs_kick = false;
        /* Full (EAGAIN) means readable: that is all that is wanted.  It never blocks. */
        while (write(client->event_fds[side], &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
    pthread_mutex_unlock(&core->lock);
}

struct task *core_task(struct core *core, int32_t pipid, uint64_t generation)
{
    if (pipid < 0 || (uint32_t)pipid >= core->control->max_tasks ||
        atomic_load(&core_slot(core, pipid)->peer.generation) != generation ||
        atomic_load(&core_slot(core, pipid)->state) == SLOT_FREE)
        return NULL;
    return &core->tasks[pipid];
}

/* ---- Threads ---------------------------------------------------------------------------------- */

/* The core's threads take no signals but glibc's own (32 to 34: cancellation, setxid), so that no
 * handler of the program runs on them. */
int core_start_thread(pthread_t *thread, void *(*main)(void *), struct core *core)
{
    uint64_t all = ~(7ULL << 31), old = 0;

    sys4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)(uintptr_t)&all, (long)(uintptr_t)&old, 8);
    int result = -pthread_create(thread, NULL, main, core);
    sys4(SYS_rt_sigprocmask, 2, (long)(uintptr_t)&old, 0, 8);
    return result;
}

static int start_threads(struct core *core)
{
    int result = core_start_thread(&core->spawner, spawner_main, core);

    if (result < 0)
        return result;
    /* It starts the reaper, so that the socket between them never is in the process's table. */
    core_lock(core);
    while (core->threads_ready < 2 && core->start_error == 0)
        pthread_cond_wait(&core->changed, &core->lock);
    result = core->start_error;
    core->stopping = result < 0;
    core_unlock(core, SIDE_PROCESS);
    if (result < 0) {
        shared_wake_spawner(core->control);
        pthread_join(core->spawner, NULL);
    }
    return result;
}

static void raise_file_limit(struct core *core)
{
    rlim_t wanted = core->control->max_tasks + CORE_FILE_RESERVE;

    if (getrlimit(RLIMIT_NOFILE, &core->file_limit) < 0 || core->file_limit.rlim_cur >= wanted)
        return;
    struct rlimit limit = core->file_limit;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        core->raised_file_limit = limit.rlim_cur;
}

/* As it was, unless somebody has changed it since. */
static void lower_file_limit(struct core *core)
{
    struct rlimit limit;

    if (core->raised_file_limit && getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur == core->raised_file_limit) {
        limit.rlim_cur = core->file_limit.rlim_cur;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- The core --------------------------------------------------------------------------------- */

static int make_control(struct core *core, uint32_t max_tasks)
{
    size_t bytes = align_up(sizeof(struct control) + max_tasks * sizeof(struct slot), ARCH_PAGE);
    struct control *control =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (control == MAP_FAILED)
        return -errno;
    control->magic = SHARED_MAGIC;
    control->abi_version = AIOPIP_ABI_VERSION;
    control->bytes = (uint32_t)bytes;
    control->max_tasks = max_tasks;
    control->root_pid = core->pid;
    control->root.sharing = &control->root_sharing;
    atomic_store(&control->root.generation, 1);
    atomic_store(&control->root.open, 1);
    core->control = control;
    core->self = (struct aiopip_peer){.control = control,
                                      .peer = &control->root,
                                      .sharing = &control->root_sharing,
                                      .core = core,
                                      .number = PEER_ROOT,
                                      .pid = core->pid};
    return window_reserve(control);
}

static void free_core(struct core *core)
{
    warm_free(core);
    if (core->control) {
        window_release(core->control);
        exports_free_all(&core->control->root_sharing);
        table_free(&core->control->root_sharing.holds);
        munmap(core->control, core->control->bytes);
    }
    pthread_mutex_destroy(&core->lock);
    pthread_cond_destroy(&core->changed);
    free(core->tasks);
    free(core->pidfds);
    free(core->preload);
    free(core->launcher);
    free(core);
}

static int make_core(const struct aiopip_options *options, struct core **out)
{
    struct core *core = calloc(1, sizeof *core);
    uint32_t max_tasks = options->max_tasks;
    pthread_condattr_t monotonic;

    if (!core)
        return -ENOMEM;
    pthread_mutex_init(&core->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&core->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    core->pid = getpid();
    core->self_pidfd = core->reaper_socket = core->control_socket = core->epoll = -1;
    core->reaper_self_pidfd = core->preload_fd = core->libc_pages = core->maps = -1;
    core->reaper_maps = core->reaper_pagemap = -1;
    core->queue_tail = &core->queue_head;
    core->next_generation = 1;
    core->preload = strdup(options->preload);
    core->launcher = options->launcher ? strdup(options->launcher) : NULL;
    core->tasks = calloc(max_tasks, sizeof *core->tasks);
    core->pidfds = malloc(max_tasks * sizeof *core->pidfds);
    int result = core->preload && core->tasks && core->pidfds ? 0 : -ENOMEM;
    if (options->launcher && !core->launcher)
        result = -ENOMEM;
    if (result == 0)
        memset(core->pidfds, -1, max_tasks * sizeof *core->pidfds);
    if (result == 0)
        result = make_control(core, max_tasks);
    if (result < 0) {
        free_core(core);
        return result;
    }
    stack_read_auxv(core->auxv);
    libc_pages_find(&core->libc);
    ledger_control = core->control;
    raise_file_limit(core);
    result = start_threads(core);
    if (result < 0) {
        lower_file_limit(core);
        free_core(core);
        return result;
    }
    core->references = 1; /* its being open; holds have one each */
    *out = core;
    return 0;
}

/* Holds outlive the clients: the threads are gone then, the memory that is held is not. */
void core_keep(struct core *core)
{
    core_lock(core);
    core->references++;
    core_unlock(core, SIDE_PROCESS);
}

void core_release(struct core *core)
{
    core_lock(core);
    bool last = --core->references == 0;
    core_unlock(core, SIDE_PROCESS);
    if (last)
        free_core(core);
}

/* ---- Clients ---------------------------------------------------------------------------------- */

static int make_client(struct core *core, struct aiopip_client **out)
{
    uint32_t events = 1;

    while (events < core->control->max_tasks * CORE_EVENTS_A_SLOT + CORE_EVENTS_A_CLIENT)
        events *= 2;
    struct aiopip_client *client = calloc(1, sizeof *client + events * sizeof client->ring[0]);
    if (!client)
        return -ENOMEM;
    int event_fd = descriptor_take(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (event_fd < 0) {
        free(client);
        return event_fd;
    }
    int epoll = ending_make_epoll(event_fd);
    if (epoll < 0) {
        close(event_fd);
        free(client);
        return epoll;
    }
    client->event_fds[SIDE_PROCESS] = event_fd;
    client->epolls[SIDE_PROCESS] = epoll;
    client->core = core;
    client->ring_mask = events - 1;
    client->event_fds[SIDE_SPAWNER] = client->event_fds[SIDE_REAPER] = -1;
    client->epolls[SIDE_SPAWNER] = client->epolls[SIDE_REAPER] = -1;
    memset(client->heeded, -1, sizeof client->heeded);
    core_lock(core);
    client->next = core->clients;
    core->clients = client;
    core->clients_changed = true;
    core_unlock(core, SIDE_PROCESS);
    shared_wake_spawner(core->control);
    *out = client;
    return 0;
}

int core_fetch(const struct core *core, int descriptor, int self_pidfd)
{
    return core->private_descriptors ? (int)sys3(SYS_pidfd_getfd, self_pidfd, descriptor, 0)
                                     : (int)sys3(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, 3);
}

void core_sync_clients(struct core *core, enum core_side side, int self_pidfd)
{
    core_lock(core);
    for (struct aiopip_client *client = core->clients; client; client = client->next) {
        int theirs = client->event_fds[SIDE_PROCESS];
        if (client->event_fds[side] < 0)
            client->event_fds[side] = core_fetch(core, theirs, self_pidfd);
        if (side == SIDE_REAPER && client->epolls[side] < 0)
            client->epolls[side] = core_fetch(core, client->epolls[SIDE_PROCESS], self_pidfd);
        if (side == SIDE_REAPER)
            reaper_heed(core, client);
    }
    for (struct aiopip_client **at = &core->closing; *at;) {
        struct aiopip_client *client = *at;
        if (client->event_fds[side] >= 0)
            close(client->event_fds[side]);
        client->event_fds[side] = -1;
        if (client->epolls[side] >= 0)
            close(client->epolls[side]);
        client->epolls[side] = -1;
        if (side == SIDE_REAPER)
            reaper_unheed(core, client);
        /* The spawner may not have come to it yet: then another message will follow. */
        if (side == SIDE_REAPER && client->event_fds[SIDE_SPAWNER] < 0) {
            *at = client->next;
            free(client);
        } else {
            at = &client->next;
        }
    }
    core_unlock(core, side);
}

/* A core that a fork has copied has no threads: it is left as it is, and another may be opened. */
static void forget_core(void)
{
    if (the_core)
        atomic_store(&the_core->self.is_copy, true);
    the_core = NULL;
    opening = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, forget_core);
}

/* Stop the threads; tasks are all reaped, what is left of their memory is held or goes now. */
static void stop_core(struct core *core)
{
    core_lock(core);
    core->stopping = true;
    core_unlock(core, SIDE_PROCESS);
    shared_wake_spawner(core->control);
    pthread_join(core->spawner, NULL);
    lower_file_limit(core);
    while (core->closing) { /* the threads' tables, and so their descriptors, are gone */
        struct aiopip_client *client = core->closing;
        core->closing = client->next;
        free(client);
    }
    /* What is still pending then, a process that we do not know runs on: it stays. */
    int32_t first = -1, last = -1;
    core_lock(core);
    core->stopped = true;
    peer_drop_origins(&core->self);
    for (uint32_t i = 0; i < core->control->max_tasks; i++) {
        struct task *task = &core->tasks[i];
        if (task->memory == MEMORY_HELD)
            reclaim_memory(core, (int32_t)i, SIDE_PROCESS);
        if (task->memory != MEMORY_NONE) {
            first = first < 0 ? (int32_t)i : first;
            last = (int32_t)i;
        }
    }
    core_unlock(core, SIDE_PROCESS);
    /* Not only with the last reference: it may be a peer's, which has a use for the control block alone. */
    if (first >= 0)
        window_shrink(core->control, first, last);
    else
        window_release(core->control);
}

/* The last client is gone. */
static void drop_core(void)
{
    struct core *core = the_core;

    the_core = NULL;
    stop_core(core);
    core_release(core);
}

/* The client has no task that is not reaped. */
static void close_client(struct aiopip_client *client)
{
    struct core *core = client->core;

    core_lock(core);
    for (struct aiopip_client **at = &core->clients; *at; at = &(*at)->next)
        if (*at == client) {
            *at = client->next;
            break;
        }
    for (uint32_t i = 0; i < core->control->max_tasks; i++)
        if (core->tasks[i].client == client) {
            core->tasks[i].client = NULL;
            core->tasks[i].drained = core->tasks[i].acknowledged = true;
            core_settle(core, (int32_t)i);
            core_let_go(core, (int32_t)i);
        }
    core->stops.listeners -= client->listens;
    close(client->epolls[SIDE_PROCESS]);
    close(client->event_fds[SIDE_PROCESS]);
    client->event_fds[SIDE_PROCESS] = client->epolls[SIDE_PROCESS] = -1;
    client->next = core->closing;
    core->closing = client;
    core->clients_changed = true;
    bool last = core->clients == NULL;
    core_unlock(core, SIDE_PROCESS);
    if (last)
        drop_core();
    else
        shared_wake_spawner(core->control);
}

int aiopip_open(const struct aiopip_options *options, aiopip_client **client)
{
    if (options->max_tasks < 1 || options->max_tasks > AIOPIP_MAX_TASKS ||
        options->preload[0] != '/' || (options->launcher && options->launcher[0] != '/'))
        return -EINVAL;
    if (getauxval(SHARED_AUXV_TYPE))
        return -EPERM; /* a task's tasks are the root's */
    pthread_once(&fork_handler, register_fork_handler);
    pthread_mutex_lock(&opening);
    bool first = the_core == NULL;
    struct aiopip_client *made = NULL;
    int result = first ? make_core(options, &the_core) : 0;
    if (result == 0)
        result = make_client(the_core, &made);
    if (result == 0 && first && options->probe)
        result = probe_core(made, options);
    if (result == 0)
        *client = made;
    else if (made)
        close_client(made);
    else if (first && the_core)
        drop_core();
    pthread_mutex_unlock(&opening);
    return result;
}

int aiopip_close(aiopip_client *client)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    pthread_mutex_lock(&opening);
    core_lock(core);
    bool busy = client->alive > 0;
    core_unlock(core, SIDE_PROCESS);
    if (!busy)
        close_client(client);
    pthread_mutex_unlock(&opening);
    return busy ? -EBUSY : 0;
}

int aiopip_fd(const aiopip_client *client)
{
    return client->epolls[SIDE_PROCESS];
}

void aiopip_get_statistics(aiopip_client *client, struct aiopip_statistics *statistics)
{
    struct core *core = client->core;
    struct control *control = core->control;

    memset(statistics, 0, sizeof *statistics);
    if (core->pid != getpid())
        return;
    core_lock(core);
    statistics->max_tasks = control->max_tasks;
    statistics->queued = core->queued;
    for (uint32_t i = 0; i < core->loading_count; i++) {
        const struct slot *slot = core_slot(core, core->loading[i].pipid);
        statistics->loading += atomic_load(&slot->state) == SLOT_RUNNING &&
                               atomic_load(&slot->loaded) == TASK_LOADED_NOT;
    }
    statistics->alive = core->alive;
    for (uint32_t i = 0; i < control->max_tasks; i++) {
        statistics->held += core->tasks[i].memory == MEMORY_HELD;
        statistics->reclaiming +=
            core->tasks[i].memory == MEMORY_PENDING || core->tasks[i].memory == MEMORY_UNMAPPING;
    }
    statistics->spawned = core->spawned;
    statistics->ended = core->ended;
    statistics->failed = core->failed;
    statistics->unloaded = core->unloaded;
    statistics->orphan_waits = core->orphan_waits;
    statistics->untracked = atomic_load(&control->untracked);
    statistics->mappings = core->mappings;
    statistics->mappings_limit = core->mappings_limit;
    statistics->window_bytes = control->window_bytes;
    statistics->private_descriptors = core->private_descriptors;
    statistics->has_clone3 = core->has_clone3;
    statistics->has_kcmp = core->has_kcmp;
    statistics->loader_tracked = core->tracked;
    statistics->loader_seeded = core->seed != NULL;
    statistics->resumes = core->warm_use == WARM_ON;
    statistics->warm = warm_count(core);
    statistics->reclaiming += statistics->warm;
    statistics->resumed = core->resumed;
    core_unlock(core, SIDE_PROCESS);
}
