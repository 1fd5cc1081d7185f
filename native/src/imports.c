/* SPDX-License-Identifier: BSD-2-Clause
 *
 * imports.c: what the root imports.  Its holds are numbers under the core's lock, and a hold keeps
 * the core itself too: a Region may outlive its Root.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core.h"
#include "exports.h"

struct aiopip_hold {
    struct core *core;
    int32_t pipid;
    void *address;
};

/* Give one hold on a slot's memory back.  Under the lock, which is released; the core may go. */
static void let_go(struct core *core, int32_t pipid)
{
    struct task *task = &core->tasks[pipid];
    bool last = --task->holds == 0;

    if (last && core->stopped && task->memory == MEMORY_HELD) {
        /* The reaper is gone: what it would do is done here. */
        window_unmap(core->control, pipid);
        task->memory = MEMORY_NONE;
    } else if (last && !core->stopped) {
        core_let_go(core, pipid);
        shared_wake_spawner(core->control);
    }
    core_release(core);
}

int aiopip_named_import(aiopip_client *client, int32_t pipid, uint64_t generation, const char *name,
                        size_t name_bytes, aiopip_hold **hold)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    if (name_bytes > EXPORT_NAME_MAX)
        return -EINVAL;
    struct aiopip_hold *made = malloc(sizeof *made);
    if (!made)
        return -ENOMEM;
    core_lock(core);
    struct task *task = core_task(core, pipid, generation);
    struct slot *slot = task ? core_slot(core, pipid) : NULL;
    uint32_t state = task ? atomic_load(&slot->state) : SLOT_FREE;
    /* Once the client has had the end and acknowledged it, what is there is only there by chance. */
    if (!task || state == SLOT_QUEUED || (state == SLOT_ENDED && task->acknowledged)) {
        core_unlock(core, SIDE_PROCESS);
        free(made);
        return state == SLOT_QUEUED ? -EAGAIN : -ECANCELED;
    }
    task->holds++;
    core->references++;
    core_unlock(core, SIDE_PROCESS);

    /* First the interest, then the look; the task first publishes, then looks for interest. */
    atomic_store(&slot->interest, 1);
    struct export_table *table = &slot->block->exports;
    int found = exports_find(table, name, name_bytes, &made->address);
    bool gone = !found && (state == SLOT_ENDED || !on_our_memory(core, task->pid));
    /* It may have exported between the look and its end, or its exec. */
    if (gone)
        found = exports_find(table, name, name_bytes, &made->address);
    if (!found) {
        free(made);
        core_lock(core);
        let_go(core, pipid);
        return gone ? -ECANCELED : -EAGAIN;
    }
    made->core = core;
    made->pipid = pipid;
    *hold = made;
    return 0;
}

void *aiopip_hold_address(const aiopip_hold *hold)
{
    return hold->address;
}

/* The exporter's memory is its window and what it wrote down besides. */
static int is_of(const struct core *core, int32_t pipid, uintptr_t start, size_t bytes)
{
    const struct control *control = core->control;
    const struct task_block *block = control->slots[pipid].block;
    uintptr_t window = control->windows + (size_t)pipid * control->window_bytes;

    if (start >= window && start - window < control->window_bytes)
        return bytes <= control->window_bytes - (start - window);
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        uintptr_t from = atomic_load(&block->outside[i].start);
        uintptr_t to = atomic_load(&block->outside[i].end);
        if (to > 1 && from <= start && start < to && bytes <= to - start)
            return 1;
    }
    return 0;
}

int aiopip_hold_check(const aiopip_hold *hold, uintptr_t address, size_t bytes)
{
    if (hold->core->pid != getpid())
        return -ESRCH;
    return bytes && is_of(hold->core, hold->pipid, address, bytes) ? mappings_check(address, bytes)
                                                                   : -EFAULT;
}

void aiopip_hold_release(aiopip_hold *hold)
{
    struct core *core = hold->core;

    if (core->pid == getpid()) {
        core_lock(core);
        let_go(core, hold->pipid);
    }
    free(hold);
}
