/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reclaim.c: giving memory back.  It goes when nothing stands against it:
 *
 *   - an import holds it: the root's are counted under the lock; a task's are in its hold table.
 *     A task writes its hold, then checks that the exporter runs; we mark the end, then read the
 *     tables (all sequentially consistent): one of us sees the other.
 *   - the client has not acknowledged the end of a task that exported something;
 *   - a process that the task made by vfork or posix_spawn may still run on it (orphans.c).
 */
#include <string.h>

#include "reaper.h"

#define LOOK_WAIT_MAX_MS 64
#define BLIND_WAIT_NS 100000000UL /* before unmapping, where orphans cannot be looked for */

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
void reclaim_one(struct reaper *reaper)
{
    int32_t pipid = list_pop(reaper->core, &reaper->ready);

    if (pipid != NO_TASK)
        reclaim(reaper, pipid);
    else if (reaper->suspects.first != NO_TASK &&
             (!reaper->look_wait_ms || core_now_ns() >= reaper->next_look_ns))
        clear_suspects(reaper);
}
