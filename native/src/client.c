/* SPDX-License-Identifier: BSD-2-Clause
 *
 * client.c: what a client asks of the core: tasks, and their end.  Any function here takes the lock for
 * a moment and never waits, but aiopip_abort.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "holds.h"
#include "options.h"
#include "warm.h"

/* ---- Spawning --------------------------------------------------------------------------------- */

static const char *keep(char **at, const char *bytes, size_t count)
{
    char *start = *at;

    *at += count;
    return memcpy(start, bytes, count);
}

static size_t length(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

/* The root's environment as a request has it: the bytes, and how many strings. */
static size_t measure_environment(size_t *count)
{
    size_t bytes = 0;

    for (*count = 0; environ && environ[*count]; ++*count)
        bytes += strlen(environ[*count]) + 1;
    return bytes;
}

static const char *keep_environment(char **at, size_t count)
{
    const char *start = *at;

    for (size_t i = 0; i < count; i++)
        *at = stpcpy(*at, environ[i]) + 1;
    return start;
}

/* A request that owns what it points to. */
static struct request *copy_request(const struct aiopip_spawn_request *spawn)
{
    const char *path_list = spawn->envp ? spawn->path_list : getenv("PATH");
    size_t envc = spawn->envc;
    size_t envp_bytes = spawn->envp ? spawn->envp_bytes : measure_environment(&envc);
    size_t bytes = length(spawn->program) + spawn->argv_bytes + envp_bytes + length(path_list) +
                   length(spawn->cwd) + options_bytes(spawn->options);
    struct request *request = malloc(sizeof *request + bytes);

    if (!request)
        return NULL;
    char *at = request->store;
    request->next = NULL;
    request->spawn = *spawn;
    request->spawn.options = options_copy(spawn->options, at);
    at += options_bytes(spawn->options);
    request->spawn.program = keep(&at, spawn->program, length(spawn->program));
    request->spawn.argv = keep(&at, spawn->argv, spawn->argv_bytes);
    request->spawn.envp =
        spawn->envp ? keep(&at, spawn->envp, envp_bytes) : keep_environment(&at, envc);
    request->spawn.envp_bytes = envp_bytes;
    request->spawn.envc = envc;
    if (path_list)
        request->spawn.path_list = keep(&at, path_list, length(path_list));
    if (spawn->cwd)
        request->spawn.cwd = keep(&at, spawn->cwd, length(spawn->cwd));
    return request;
}

/* Whether its memory goes by itself: nobody imports it, and the end was acknowledged. */
static bool is_going(const struct core *core, int32_t pipid)
{
    enum memory_state memory = core->tasks[pipid].memory;

    return atomic_load(&core->control->slots[pipid].state) == SLOT_ENDED && memory != MEMORY_HELD &&
           memory != MEMORY_STUCK;
}

/* The slot wanted; or a free one, best one that has the program loaded, or else nothing: its number,
 * -EBUSY or -EAGAIN. */
static int choose_slot(struct core *core, int32_t wanted, const char *program)
{
    bool going = false;
    uint32_t first = wanted < 0 ? 0 : (uint32_t)wanted;
    uint32_t end = wanted < 0 ? core->control->max_tasks : first + 1;
    int chosen = wanted < 0 ? warm_choose(core, program) : -1;

    if (chosen >= 0)
        return chosen;
    for (uint32_t i = first; i < end; i++) {
        if (atomic_load(&core->control->slots[i].state) == SLOT_FREE) {
            if (wanted >= 0 || !warm_is(core, (int32_t)i))
                return (int)i;
            chosen = chosen < 0 ? (int)i : chosen;
        }
        going |= is_going(core, (int32_t)i);
    }
    return chosen >= 0 ? chosen : going ? -EAGAIN : -EBUSY;
}

static void take_slot(struct core *core, struct aiopip_client *client, struct request *request,
                      int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);

    atomic_store(&slot->state, SLOT_TAKEN);
    request->pipid = pipid;
    request->generation = core->next_generation++;
    core->tasks[pipid] = (struct task){.client = client, .memory = MEMORY_MAPPED};
    slot->block = NULL;
    slot->peer.sharing = NULL;
    for (uint32_t i = 0; i < AIOPIP_MAX_TASKS / 64; i++)
        atomic_store_explicit(&slot->peer.importers[i], 0, memory_order_relaxed);
    atomic_store(&slot->peer.wants_releases, 0);
    atomic_store(&slot->interest, client->listens);
    atomic_store(&slot->started, TASK_STARTED_NOT);
    atomic_store(&slot->loaded, TASK_LOADED_NOT);
    atomic_store(&slot->quiet, 0);
    atomic_store(&slot->peer.generation, request->generation);
    atomic_store(&slot->state, SLOT_QUEUED);
    client->alive++;
    core->queued++;
    *core->queue_tail = request;
    core->queue_tail = &request->next;
}

int aiopip_spawn(aiopip_client *client, const struct aiopip_spawn_request *spawn, int32_t *pipid,
                 uint64_t *generation)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    if (spawn->pipid < AIOPIP_PIPID_ANY || spawn->pipid >= (int32_t)core->control->max_tasks ||
        options_check(spawn) < 0)
        return -EINVAL;
    struct request *request = copy_request(spawn);
    if (!request)
        return -ENOMEM;
    int result = attributes_read(&request->attributes);
    if (result < 0) {
        free(request);
        return result;
    }
    core_lock(core);
    int chosen = choose_slot(core, spawn->pipid, spawn->program);
    if (chosen >= 0 && options_want_table(spawn->options) && cloner_start(core) < 0)
        chosen = -ENOMEM;
    if (chosen >= 0) {
        take_slot(core, client, request, chosen);
        *pipid = chosen;
        *generation = request->generation;
    } else if (chosen == -EAGAIN) {
        client->wants_reclaimed = true;
    }
    core_unlock(core, SIDE_PROCESS);
    if (chosen < 0) {
        free(request);
        return chosen;
    }
    shared_wake_spawner(core->control);
    return 0;
}

/* ---- Looking, ending -------------------------------------------------------------------------- */

int aiopip_shares(aiopip_client *client, int32_t pipid, uint64_t generation)
{
    struct core *core = client->core;
    int result = -ESRCH;

    if (core->pid != getpid())
        return result;
    core_lock(core);
    struct task *task = core_task(core, pipid, generation);
    if (task && atomic_load(&core_slot(core, pipid)->state) == SLOT_RUNNING)
        result = on_our_memory(core, task->pid);
    core_unlock(core, SIDE_PROCESS);
    return result;
}

int aiopip_cancel(aiopip_client *client, int32_t pipid, uint64_t generation)
{
    struct core *core = client->core;
    int result = -ESRCH;

    if (core->pid != getpid())
        return result;
    core_lock(core);
    struct task *task = core_task(core, pipid, generation);
    if (task && atomic_load(&core_slot(core, pipid)->state) == SLOT_QUEUED) {
        task->cancelled = true; /* the spawner finds it before the clone, or right behind */
        core->requests_cancelled = true;
        result = 0;
    } else if (task) {
        result = core_kill(core, pipid, SIGKILL);
    }
    core_unlock(core, SIDE_PROCESS);
    shared_wake_spawner(core->control);
    return result;
}

/* Whether the root holds any of a task's memory: not of what that has from somebody else. */
static bool root_holds(struct core *core, int32_t pipid)
{
    const struct sharing *sharing = &core->control->root_sharing;
    uint64_t word = holds_word_of_all((uint32_t)pipid) & HOLDS_OF_PEER;
    const struct hold_entry *entry;

    for (uint32_t index = 0; (entry = holds_next(sharing, &index, HOLDS_OF_PEER, word)) != NULL;
         index++)
        if (atomic_load(&entry->start) < atomic_load(&entry->end))
            return true;
    return false;
}

void core_let_go(struct core *core, int32_t pipid)
{
    struct task *task = &core->tasks[pipid];

    if (task->memory != MEMORY_HELD)
        return;
    if (core->stopped) {
        reclaim_memory(core, pipid, SIDE_PROCESS);
        return;
    }
    /* From now on a spawn that wants the slot may wait for it. */
    if (!root_holds(core, pipid) && task->acknowledged && !core->stopping)
        task->memory = MEMORY_PENDING;
    peer_look(core->control, (uint32_t)pipid);
}

int aiopip_acknowledge(aiopip_client *client, int32_t pipid, uint64_t generation)
{
    struct core *core = client->core;
    int result = -ESRCH;

    if (core->pid != getpid())
        return result;
    core_lock(core);
    struct task *task = core_task(core, pipid, generation);
    if (task) {
        reclaim_acknowledge(core, pipid);
        result = 0;
    }
    core_unlock(core, SIDE_PROCESS);
    return result;
}

void aiopip_trim(aiopip_client *client)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return;
    atomic_store(&core->warm_is_idle, true);
    shared_wake_spawner(core->control);
}

int aiopip_abort(aiopip_client *client, uint32_t timeout_ms)
{
    struct core *core = client->core;
    uint64_t deadline_ns = core_now_ns() + timeout_ms * 1000000UL;
    struct timespec deadline = {(time_t)(deadline_ns / 1000000000UL),
                                (long)(deadline_ns % 1000000000UL)};

    if (core->pid != getpid())
        return -ESRCH;
    core_lock(core);
    for (uint32_t i = 0; i < core->control->max_tasks; i++)
        if (core->tasks[i].client == client) {
            core->tasks[i].cancelled = true;
            core_kill(core, (int32_t)i, SIGKILL);
        }
    core->requests_cancelled = true;
    shared_wake_spawner(core->control);
    while (client->alive > 0 &&
           pthread_cond_timedwait(&core->changed, &core->lock, &deadline) != ETIMEDOUT)
        ;
    int left = (int)client->alive;
    core_unlock(core, SIDE_PROCESS);
    return left;
}
