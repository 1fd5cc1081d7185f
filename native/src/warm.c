/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm.c: windows that keep their programs loaded (warm.h): which, and for whom.
 *
 * The table of them is under the core's lock.  What one entry leads to is the spawner's while its slot
 * is free, queued or running, and the reaper's while it has ended.
 */
#include "warm.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "core.h"
#include "options.h"
#include "program_cache.h"

#define IDLE_NS 250000000UL /* for so long after the last spawn windows are kept warm */
#define FAILURES_MAX 7      /* then every 64th start is tried */
/* Another loading, or the root's descriptors, in which a task that is killed would leave those by which it
 * writes its state down. */
#define UNUSUAL (OPTIONS_CREDENTIALS | AIOPIP_OPTION_SHARE_FILES)

/* ---- The table -------------------------------------------------------------------------------- */

uint64_t warm_hash(const char *name)
{
    uint64_t hash = 14695981039346656037UL;

    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 1099511628211UL;
    return hash;
}

/* Nothing is posted here, so nobody is to be kicked; and without threads the lock is held already. */
static void lock(struct core *core)
{
    if (!core->stopped)
        pthread_mutex_lock(&core->lock);
}

static void unlock(struct core *core)
{
    if (!core->stopped)
        pthread_mutex_unlock(&core->lock);
}

static struct warm_entry *find(struct core *core, int32_t pipid)
{
    for (size_t i = 0; i < CORE_WARM; i++)
        if (core->warm[i].state && core->warm[i].pipid == pipid)
            return &core->warm[i];
    return NULL;
}

struct warm *warm_of(struct core *core, int32_t pipid)
{
    lock(core);
    struct warm_entry *entry = find(core, pipid);
    struct warm *state = entry ? entry->state : NULL;
    unlock(core);
    return state;
}

void warm_note_end(struct core *core, const struct task *task)
{
    struct warm_program *entry = &core->programs[task->program % CORE_PROGRAMS];

    if (entry->program != task->program)
        *entry = (struct warm_program){.program = task->program};
}

void warm_note_kept(struct core *core, const struct task *task, bool kept)
{
    lock(core);
    struct warm_program *entry = &core->programs[task->program % CORE_PROGRAMS];
    if (entry->program == task->program && kept) {
        entry->failures = entry->skip = 0;
    } else if (entry->program == task->program) {
        entry->skip = (1U << entry->failures) - 1;
        entry->failures += entry->failures < FAILURES_MAX;
    }
    unlock(core);
}

/* Whether a start of a program is to be written down: it is started again, and will not do in vain what
 * it did before.  Under the lock. */
static bool is_wanted(struct core *core, const char *program)
{
    uint64_t hash = warm_hash(program);
    struct warm_program *entry = &core->programs[hash % CORE_PROGRAMS];

    if (core->warm_use == WARM_TRYING)
        return true;
    if (entry->program != hash)
        return false;
    if (entry->skip == 0)
        return true;
    entry->skip--;
    return false;
}

static bool is_idle(const struct core *core, const struct warm_entry *entry)
{
    return entry->state && atomic_load(&core->control->slots[entry->pipid].state) == SLOT_FREE;
}

void warm_free(struct core *core)
{
    for (size_t i = 0; i < CORE_WARM; i++)
        if (core->warm[i].state)
            munmap(core->warm[i].state, sizeof *core->warm[i].state);
}

uint32_t warm_count(const struct core *core)
{
    uint32_t count = 0;

    for (size_t i = 0; i < CORE_WARM; i++)
        count += is_idle(core, &core->warm[i]);
    return count;
}

int32_t warm_choose(const struct core *core, const char *name)
{
    uint64_t hash = warm_hash(name);
    int32_t chosen = -1;

    for (size_t i = 0; i < CORE_WARM; i++) {
        const struct warm_entry *entry = &core->warm[i];
        if (entry->name_hash == hash && is_idle(core, entry) &&
            (chosen < 0 || entry->pipid < chosen))
            chosen = entry->pipid;
    }
    return chosen;
}

bool warm_is(struct core *core, int32_t pipid)
{
    return find(core, pipid) != NULL;
}

void warm_forget(struct core *core, int32_t pipid)
{
    struct warm *state = NULL;

    lock(core);
    struct warm_entry *entry = find(core, pipid);
    if (entry) {
        state = entry->state;
        entry->state = NULL;
    }
    unlock(core);
    if (state)
        munmap(state, sizeof *state);
}

/* A task may have sealed some of it (mseal): then the slot is lost, unless it is a request's by now, which
 * finds that out itself. */
void warm_drop(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);

    if (!warm_of(core, pipid))
        return;
    uintptr_t window = core->control->windows + (size_t)pipid * core->control->window_bytes;
    bool lost = munmap((void *)window, core->control->window_bytes) < 0;
    warm_forget(core, pipid);
    lock(core);
    if (lost && atomic_load(&slot->state) == SLOT_FREE) {
        core->tasks[pipid].memory = MEMORY_STUCK;
        atomic_store(&slot->state, SLOT_ENDED);
    }
    unlock(core);
}

/* A client may take a slot while its window is unmapped: it is this thread that maps there. */
void warm_drop_idle(struct core *core)
{
    for (size_t i = 0; i < CORE_WARM; i++) {
        lock(core);
        int32_t pipid = core->warm[i].pipid;
        bool idle = is_idle(core, &core->warm[i]);
        unlock(core);
        if (idle)
            warm_drop(core, pipid);
    }
}

int warm_patience_ms(struct core *core)
{
    uint64_t since = core->warm_kept_ns, spawned = atomic_load(&core->last_spawn_ns);
    uint64_t now = core_now_ns(); /* behind both */

    if (!since)
        return -1;
    since = since < spawned ? spawned : since;
    if (now - since < IDLE_NS)
        return (int)((IDLE_NS - (now - since)) / 1000000) + 1;
    core->warm_kept_ns = 0;
    atomic_store(&core->warm_is_idle, true);
    shared_wake_spawner(core->control);
    return -1;
}

/* ---- For the next task ------------------------------------------------------------------------ */

/* Whether ld.so does the same whatever else an environment has. */
static bool is_plain(const char *envp, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(envp, "LD_", 3) == 0 || strncmp(envp, "MALLOC_", 7) == 0 ||
            strncmp(envp, "GLIBC_", 6) == 0)
            return false;
        envp += strlen(envp) + 1;
    }
    return true;
}

static bool is_usual(const struct stack_content *content)
{
    const struct aiopip_spawn_request *request = content->request;
    const struct aiopip_spawn_options *options = request->options;

    return content->seed && content->image->resume && content->image->tracked &&
           !(options && (options->given & UNUSUAL || options->limit_count)) &&
           is_plain(request->envp, request->envc);
}

static bool is_unchanged(const struct warm_file *file)
{
    struct stat now;

    if (stat(file->path, &now) < 0)
        return errno == ENOENT && file->status.st_ino == 0;
    return program_cache_is_same(&now, &file->status);
}

static bool fits(const struct warm *warm, const struct stack_content *content, size_t stack_bytes)
{
    if (!warm || !atomic_load_explicit(&warm->complete, memory_order_acquire) ||
        !is_usual(content) || warm->image != content->image || warm->seed != content->seed ||
        warm->stack_bytes != stack_bytes ||
        warm->stack_limit != attributes_stack_limit(content->request->options) ||
        strcmp(warm->program, content->program->path) != 0 ||
        strcmp(warm->libpython, content->program->libpython) != 0)
        return false;
    for (size_t i = 0; i < warm->file_count; i++)
        if (!is_unchanged(&warm->files[i]))
            return false;
    return true;
}

/* What a task finds random is so for each: where AT_RANDOM points to, and what ld.so makes of that. */
static void renew_random(const struct warm *warm)
{
    uint64_t *random = NULL, *canary = (uint64_t *)(warm->thread + ARCH_STACK_GUARD);
    uint64_t *guard = (uint64_t *)(warm->thread + ARCH_POINTER_GUARD);

    for (size_t i = 0; i < warm->auxv_count; i++)
        if (warm->auxv[i][0] == AT_RANDOM)
            random = (uint64_t *)warm->auxv[i][1];
    if (!random || getrandom(random, 2 * sizeof *random, GRND_NONBLOCK) < 0)
        return; /* before the pool is filled: as they were */
    *canary = random[0] & ARCH_STACK_GUARD_MASK;
    *guard = random[1];
}

bool warm_build(struct core *core, int32_t pipid, const struct stack_content *content,
                size_t stack_bytes, struct task_block **block_out, uintptr_t *stack_start)
{
    struct warm *warm = warm_of(core, pipid);
    struct slot *slot = core_slot(core, pipid);

    if (!fits(warm, content, stack_bytes))
        return false;
    struct task_block *block = window_block(core, pipid, stack_bytes, stack_start);
    size_t room = warm->stack - *stack_start, needed = (size_t)stack_measure(content, SIZE_MAX);
    if (room < needed + STACK_ROOM)
        return false;
    memset(block, 0, SHARED_BLOCK_BYTES);
    window_fill(core, pipid, stack_bytes, content->image, block);
    atomic_store(&slot->cursor, warm->cursor);
    atomic_store(&slot->spare, warm->spare);
    renew_random(warm);
    block->start.warm = warm;
    block->start.program = warm->loaded;
    block->start.executable = warm->executable;
    block->start.resume = block->window_first + content->image->resume;
    block->start.stack = stack_continue(content, warm, block);
    *block_out = block;
    return true;
}

void warm_prepare(struct core *core, int32_t pipid, const struct stack_content *content,
                  size_t stack_bytes, struct task_block *block)
{
    struct warm_entry *entry = NULL;

    if (core->warm_use == WARM_OFF || !is_usual(content))
        return;
    lock(core);
    bool wanted = is_wanted(core, content->program->path);
    for (size_t i = 0; i < CORE_WARM && wanted && !entry; i++)
        if (!core->warm[i].state)
            entry = &core->warm[i];
    unlock(core);
    if (!entry)
        return;
    struct warm *warm = mmap(NULL, sizeof *warm, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (warm == MAP_FAILED)
        return;
    strcpy(warm->program, content->program->path);
    strcpy(warm->libpython, content->program->libpython);
    warm->image = content->image;
    warm->seed = content->seed;
    warm->stack_bytes = stack_bytes;
    warm->stack_limit = attributes_stack_limit(content->request->options);
    lock(core);
    *entry = (struct warm_entry){warm, warm_hash(content->request->program), pipid};
    unlock(core);
    block->start.warm = warm;
}
