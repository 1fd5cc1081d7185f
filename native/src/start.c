/* SPDX-License-Identifier: BSD-2-Clause
 *
 * start.c: one spawn, from the request to a process that is the reaper's, or to a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "core.h"
#include "entry.h"
#include "exec.h"
#include "exports.h"
#include "kill_points.h"
#include "options.h"
#include "warm.h"

#define MAPPINGS_A_TASK 32 /* while it loads, at most, when it is small */
#define CLONE_FLAGS (KERNEL_CLONE_VM | KERNEL_CLONE_PIDFD | KERNEL_CLONE_CHILD_SETTID)

/* What start_task has made so far, for the way back. */
struct start {
    struct core *core;
    struct request *request;
    struct program_error *error;
    struct program *program;
    struct image *image;
    const struct seed *seed; /* or NULL */
    struct exec_plan *exec;  /* malloc; or NULL: it becomes a task */
    struct task_block *block;
    uintptr_t stack_start;
    uintptr_t function;
    uint64_t started_ns;
    long pid;
    int pidfd;
    int result;
};

static int build_memory(struct start *start)
{
    struct core *core = start->core;
    struct stack_content content = {.preload = core->preload,
                                    .launcher = core->launcher,
                                    .program = start->program,
                                    .request = &start->request->spawn,
                                    .image = start->image,
                                    .seed = start->seed,
                                    .auxv = core->auxv};
    size_t stack_bytes = attributes_stack(&start->request->spawn);
    long needed = stack_measure(&content, stack_bytes);
    uintptr_t image_at;

    if (stack_bytes > core->control->window_bytes / 2)
        return program_fail(start->error, AIOPIP_FAILED_OPTIONS, ENOMEM, "stack_bytes");
    if (needed < 0 || (size_t)needed + SHARED_BLOCK_BYTES + STACK_ROOM > stack_bytes)
        return program_fail(start->error, AIOPIP_FAILED_ARGUMENTS, E2BIG, "%s",
                            start->request->spawn.program);
    if (warm_build(core, start->request->pipid, &content, stack_bytes, &start->block,
                   &start->stack_start)) {
        start->block->start.function = start->function;
        return 0;
    }
    int result = window_map(core, start->request->pipid, stack_bytes, start->image, &start->block,
                            &start->stack_start, &image_at);
    if (result < 0)
        return program_fail(start->error, AIOPIP_FAILED_MEMORY, -result, "stack and %s",
                            start->image->path);
    if (start->seed)
        seed_apply(start->seed, image_at);
    content.image_at = image_at;
    start->block->start.entry = image_at + start->image->entry;
    start->block->start.function = start->function;
    start->block->start.stack = stack_build(&content, (uintptr_t)start->block, start->block);
    warm_prepare(core, start->request->pipid, &content, stack_bytes, start->block);
    return 0;
}

/* The eventfd of the task's client in this thread's table, unless the spawner has to come first, or the
 * number may be one of the task's own. */
static int event_fd_of(const struct start *start)
{
    struct core *core = start->core;

    if (start->request->spawn.flags & AIOPIP_SPAWN_STOPPED || start->request->spawn.options ||
        start->exec)
        return -1;
    core_lock(core);
    const struct aiopip_client *client = core->tasks[start->request->pipid].client;
    int descriptor = client ? client->event_fds[SIDE_SPAWNER] : -1;
    core_unlock(core, SIDE_SPAWNER);
    return descriptor;
}

static uint64_t clone_flags(const struct start *start)
{
    const struct aiopip_spawn_options *options = start->request->spawn.options;
    /* One that execs has a use for our memory until then: the plan, and what the plan points to. */
    uint64_t flags = CLONE_FLAGS | (start->exec ? KERNEL_CLONE_VFORK : 0);

    if (options && options->given & AIOPIP_OPTION_SHARE_FILES)
        flags |= KERNEL_CLONE_FILES;
    if (options && options->given & AIOPIP_OPTION_SHARE_FS)
        flags |= KERNEL_CLONE_FS;
    return flags;
}

/* The child starts below what was built, on its own stack. */
static long clone_task(struct start *start, int *pidfd)
{
    struct core *core = start->core;
    struct task_block *block = start->block;
    uintptr_t stack = (block->start.stack - 256) & -16UL;
    uint64_t flags = clone_flags(start);
    long result = -ENOSYS;

    if (core->has_clone3) {
        struct kernel_clone_args arguments = {
            .flags = flags | KERNEL_CLONE_CLEAR_SIGHAND,
            .pidfd = (uintptr_t)pidfd,
            .child_tid = (uintptr_t)&block->pid,
            .stack = start->stack_start,
            .stack_size = stack - start->stack_start,
        };
        result = arch_clone(SYS_clone3, (long)(uintptr_t)&arguments, sizeof arguments, 0, 0, 0,
                            child_main, block);
        /* Not there, forbidden, or (before 5.5) without CLEAR_SIGHAND. */
        if (result != -ENOSYS && result != -EPERM && result != -EINVAL)
            return result;
        core->has_clone3 = false;
        block->start.reset_handlers = 1;
    }
    return arch_clone(SYS_clone, (long)flags, (long)stack, (long)(uintptr_t)pidfd,
                      (long)(uintptr_t)&block->pid, 0, child_main, block);
}

static bool is_cancelled(struct core *core, int32_t pipid)
{
    core_lock(core);
    bool cancelled = core->tasks[pipid].cancelled;
    core_unlock(core, SIDE_SPAWNER);
    return cancelled;
}

/* From the clone on the task exports and imports, whatever we have come to by then. */
static void open_memory(struct start *start)
{
    struct peer *peer = &start->block->slot->peer;

    exports_begin(&start->block->sharing, start->request->generation);
    peer->sharing = &start->block->sharing;
    atomic_store(&peer->open, start->request->generation);
}

/* What options have to do with the program. */
static int check_options(struct start *start, const struct aiopip_spawn_options *options)
{
    uid_t user = options->given & AIOPIP_OPTION_USER ? options->user : geteuid();
    gid_t group = options->given & AIOPIP_OPTION_GROUP ? options->group : getegid();
    int result = 0;

    if (options->given & OPTIONS_CREDENTIALS)
        result = program_check_for(start->program, user, group, start->error);
    if (result == 0 && options->entry)
        result = entry_find(start->program, options->entry, &start->function, start->error);
    return result;
}

/* What is to run as a task, and the ld.so that loads it. */
static int find_program(struct start *start)
{
    struct core *core = start->core;
    const struct aiopip_spawn_request *spawn = &start->request->spawn;

    int result =
        program_find(spawn->program, spawn->path_list, spawn->cwd, start->program, start->error);
    if (result < 0)
        return result;
    if (start->program->libpython[0] && !core->launcher)
        return program_fail(start->error, AIOPIP_FAILED_NOT_PIE, ENOEXEC, "%s",
                            start->program->path);
    if (spawn->options && (result = check_options(start, spawn->options)) < 0)
        return result;
    result = image_find(&core->images, start->program->interpreter, &start->image, start->error);
    if (result == 0)
        core->tracked = start->image->tracked;
    return result;
}

/* Everything that does not depend on a descriptor table. */
static int prepare(struct start *start)
{
    struct core *core = start->core;
    const struct aiopip_spawn_request *spawn = &start->request->spawn;
    rlim_t descriptors =
        core->raised_file_limit ? core->raised_file_limit : core->file_limit.rlim_cur;

    if (is_cancelled(core, start->request->pipid))
        return program_fail(start->error, AIOPIP_FAILED_CANCELLED, ECANCELED, "%s", spawn->program);
    if (core->alive + CORE_FILE_RESERVE > descriptors)
        return program_fail(start->error, AIOPIP_FAILED_WATCH, EMFILE, "%u tasks", core->alive);
    int result =
        exec_must(spawn) ? exec_plan(spawn, &start->exec, start->error) : find_program(start);
    if (result < 0 && !start->exec && exec_can(spawn, start->error, -result))
        result = exec_plan(spawn, &start->exec, start->error);
    if (result < 0)
        return result;
    if (start->image && core->seed && seed_is_for(core->seed, start->image) &&
        seed_fits(spawn->envp, spawn->envp_bytes))
        start->seed = core->seed;
    atomic_store(&core->last_spawn_ns, core_now_ns());
    if (!mappings_left(core, MAPPINGS_A_TASK))
        warm_drop_idle(core);
    if (!mappings_left(core, MAPPINGS_A_TASK))
        return program_fail(start->error, AIOPIP_FAILED_MAPPINGS, ENOMEM, "%lu of %lu",
                            (unsigned long)core->mappings, (unsigned long)core->mappings_limit);
    return start->exec ? exec_map(core, start->request, start->exec, &start->block,
                                  &start->stack_start, start->error)
                       : build_memory(start);
}

/* From the descriptors to the process, in the thread whose descriptor table it gets, or a copy of it. */
static void make_process(struct start *start, const struct thread_attributes *mine, bool own_table)
{
    struct core *core = start->core;
    const struct aiopip_spawn_request *spawn = &start->request->spawn;
    struct task_start *child = &start->block->start;
    struct fetched fetched = {.all_here = !own_table};

    start->result = descriptors_fetch(core, spawn, child, &fetched, start->error);
    if (start->result == 0) {
        attributes_set(core, start->request, mine, child);
        child->event_fd = event_fd_of(start);
        open_memory(start);
        start->started_ns = core_now_ns();
        start->pid = clone_task(start, &start->pidfd);
        if (start->pid < 0)
            start->result =
                program_fail(start->error, AIOPIP_FAILED_CLONE, (int)-start->pid, "clone");
    }
    descriptors_close(&fetched);
}

static void make_in_cloner(void *argument)
{
    struct start *start = argument;

    make_process(start, &start->core->cloner.attributes, false);
}

static void close_pidfd(void *argument)
{
    close(((struct start *)argument)->pidfd);
}

/* The pidfd comes to lie in the process's table, and is wanted in this thread's. */
static void make_by_cloner(struct start *start)
{
    struct core *core = start->core;

    cloner_call(core, make_in_cloner, start);
    if (start->pidfd < 0)
        return;
    int here = (int)sys3(SYS_pidfd_getfd, core->self_pidfd, start->pidfd, 0);
    cloner_call(core, close_pidfd, start);
    start->pidfd = here; /* or an error: then the reaper opens one */
}

/* There is a process.  It is the reaper's from the message on, and may have ended by then. */
static void register_task(struct start *start)
{
    struct core *core = start->core;
    int32_t pipid = start->request->pipid;
    struct task *task = &core->tasks[pipid];

    KILL_POINT(SPAWN_CLONED);
    core_lock(core);
    task->pid = (pid_t)start->pid;
    task->started_ns = start->started_ns;
    task->program = warm_hash(start->program->path);
    atomic_store(&core_slot(core, pipid)->state, SLOT_RUNNING);
    core->queued--;
    core->alive++;
    core->spawned++;
    core->resumed += start->block->start.resume != 0;
    core->loading[core->loading_count].pipid = pipid;
    core->loading[core->loading_count++].since_ns = task->started_ns;
    core_announce_started(core);
    if (task->cancelled)
        kill(task->pid, SIGKILL);
    bool listens = core->stops.listeners > 0;
    core_unlock(core, SIDE_SPAWNER);
    if (listens)
        stops_look(core);
    peer_announce(core->control, &core_slot(core, pipid)->peer);
    reaper_tell(core, REAPER_WATCH, pipid, start->pidfd);
    close(start->pidfd);
}

/* There is none.  Memory that was open already others may look into, to see what the task holds, and
 * hold it meanwhile: it is given back by the reaper, as that of a task that has ended.  It is closed
 * under the lock, for under the lock the core looks into all that is open. */
static void register_failure(struct start *start, int error)
{
    struct core *core = start->core;
    int32_t pipid = start->request->pipid;
    struct task *task = &core->tasks[pipid];
    struct peer *peer = &core_slot(core, pipid)->peer;
    bool opened = atomic_load(&peer->open) != 0;
    /* Somebody else's mapping in the window (EEXIST) takes the slot out of use too. */
    bool stuck = !opened && (window_unmap(core, pipid, NULL, 0) < 0 || error == -EEXIST);

    core_lock(core);
    atomic_store(&peer->open, 0);
    task->error = -error;
    task->failure = *start->error;
    task->failed = task->acknowledged = true;
    task->memory = opened ? MEMORY_PENDING : stuck ? MEMORY_STUCK : MEMORY_NONE;
    task->aside = opened;
    core->queued--;
    core->failed++;
    if (task->client)
        task->client->alive--;
    atomic_store(&core_slot(core, pipid)->state, SLOT_ENDED);
    core_post(core, pipid, AIOPIP_EVENT_FAILED);
    pthread_cond_broadcast(&core->changed);
    core_unlock(core, SIDE_SPAWNER);
    if (opened)
        peer_look(core->control, (uint32_t)pipid);
    peer_announce(core->control, peer);
}

void start_task(struct core *core, struct request *request)
{
    struct program_error error = {0};
    struct program program;
    struct start start = {
        .core = core, .request = request, .error = &error, .program = &program, .pidfd = -1};

    program.path[0] = 0;
    start.result = prepare(&start);
    if (start.result == 0 && core->private_descriptors &&
        options_want_table(request->spawn.options))
        make_by_cloner(&start);
    else if (start.result == 0)
        make_process(&start, &core->spawner_attributes, core->private_descriptors);
    free(start.exec);
    if (start.result < 0)
        register_failure(&start, start.result);
    else
        register_task(&start);
}
