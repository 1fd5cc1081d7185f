/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reclaim.c: giving memory back.  It goes when nothing stands against it:
 *
 *   - the client has not acknowledged the end of a task that exported something, or an export is to
 *     be kept until its first import was released.  Until then the task's memory is open: it may be
 *     imported from, and what the task itself holds stays held;
 *   - somebody holds it: then what is held of it stays, page by page, and the rest goes.  First it is
 *     closed, then the holds are read (peer.c);
 *   - a process that the task made by vfork or posix_spawn may still run on it (orphans.c).
 */
#include <stdlib.h>
#include <string.h>

#include "exports.h"
#include "holds.h"
#include "kill_points.h"
#include "reaper.h"
#include "warm.h"

#define LOOK_WAIT_MAX_MS 64
#define LOOK_TRIES 100            /* then all is taken to be held, and it is looked again later */
#define BLIND_WAIT_NS 100000000UL /* before unmapping, where orphans cannot be looked for */

/* ---- Holds ------------------------------------------------------------------------------------ */

/* The peers that may hold something of a slot's memory, one after the other: `at` begins at 0.  NULL
 * behind the last.  Under the lock: what a task has is not unmapped meanwhile. */
static const struct sharing *next_holder(struct core *core, int32_t pipid, uint32_t *at)
{
    struct control *control = core->control;

    if (*at == 0) {
        *at = 1;
        return &control->root_sharing;
    }
    for (uint32_t i = *at - 1; i < control->max_tasks; i++) {
        const struct peer *peer = &core_slot(core, (int32_t)i)->peer;
        if (!(atomic_load(&core_slot(core, pipid)->peer.importers[i / 64]) >> i % 64 & 1) ||
            !atomic_load(&peer->open))
            continue;
        *at = i + 2;
        return peer->sharing;
    }
    return NULL;
}

/* Whether an import of an export lasts.  Those of tasks whose end was acknowledged do not, though
 * their memory is kept, and what they hold stays: it may be the task itself, or one of two that keep
 * each other. */
static bool is_imported(struct core *core, int32_t pipid, uint64_t word)
{
    const struct sharing *sharing;

    for (uint32_t at = 0; (sharing = next_holder(core, pipid, &at)) != NULL;) {
        uint32_t index = 0;
        int32_t holder = (int32_t)at - 2; /* -1: the root */
        bool ended = holder >= 0 && atomic_load(&core_slot(core, holder)->state) == SLOT_ENDED;
        if (ended && core->tasks[holder].acknowledged)
            continue;
        if (holds_next(sharing, &index, HOLDS_OF_EXPORT, word))
            return true;
    }
    return false;
}

/* What is held of a slot's memory. */
struct held {
    bool all;
    struct span *spans; /* malloc */
    size_t count, room;
};

static void add_span(struct held *held, uintptr_t start, uintptr_t end)
{
    if (held->count == held->room) {
        size_t room = held->room ? 2 * held->room : 16;
        struct span *spans = realloc(held->spans, room * sizeof *spans);
        if (!spans) {
            held->all = true; /* no memory to know better */
            return;
        }
        held->spans = spans;
        held->room = room;
    }
    held->spans[held->count++] =
        (struct span){start & -ARCH_PAGE, (end + ARCH_PAGE - 1) & -ARCH_PAGE};
}

static void read_holds(struct core *core, int32_t pipid, struct held *held)
{
    uint64_t word = holds_word_of_all((uint32_t)pipid) & HOLDS_OF_PEER;
    const struct sharing *sharing;

    for (uint32_t at = 0; (sharing = next_holder(core, pipid, &at)) != NULL;) {
        const struct hold_entry *entry;
        for (uint32_t index = 0; (entry = holds_next(sharing, &index, HOLDS_OF_PEER, word)) != NULL;
             index++) {
            uintptr_t start = atomic_load(&entry->start), end = atomic_load(&entry->end);
            if (end == UINTPTR_MAX)
                held->all = true;
            else if (start < end)
                add_span(held, start, end);
        }
    }
}

/* A hold may be taken over by another one while they are read: then they are read again.  Not for
 * ever, for it is done under the lock; when there are no threads any more, there are no tasks. */
static void look_for_holds(struct core *core, int32_t pipid, struct held *held)
{
    const struct peer *peer = &core_slot(core, pipid)->peer;

    *held = (struct held){0};
    for (int i = 0; i < LOOK_TRIES || core->stopped; i++) {
        uint64_t transfers = atomic_load(&peer->transfers);
        held->all = false;
        held->count = 0;
        read_holds(core, pipid, held);
        if (transfers == atomic_load(&peer->transfers))
            return;
    }
    held->all = true;
    peer_look(core->control, (uint32_t)pipid);
}

/* ---- Closing ---------------------------------------------------------------------------------- */

/* Whether an export of an ended task is to outlive it: its first import is still to come, or lasts. */
static bool is_entry_kept(struct core *core, int32_t pipid, uint32_t index, uint64_t word)
{
    const struct export_entry *entry = exports_at(core_slot(core, pipid)->peer.sharing, index);

    return atomic_load(&entry->record)->flags & AIOPIP_EXPORT_KEEP &&
           (!(atomic_load(&entry->marks) & EXPORT_IMPORTED) ||
            is_imported(core, pipid, holds_word((uint32_t)pipid, exports_id(index, word))));
}

/* Whether one of them is; all others are withdrawn in their owner's place. */
static bool is_kept(struct core *core, int32_t pipid)
{
    struct sharing *sharing = core_slot(core, pipid)->peer.sharing;
    bool kept = false;

    if (!core->tasks[pipid].client || core->stopping || !atomic_load(&sharing->kept))
        return false;
    for (uint32_t i = 0; i < atomic_load(&sharing->exports.used); i++) {
        struct export_entry *entry = exports_at(sharing, i);
        uint64_t word = atomic_load(&entry->word);
        if (exports_state(word) != EXPORT_PUBLISHED)
            continue;
        if (is_entry_kept(core, pipid, i, word))
            kept = true;
        else
            atomic_store(&entry->word, (word & ~0xfUL) | EXPORT_WITHDRAWN);
    }
    return kept;
}

static void add_table(struct held *held, const struct table *table, size_t entry_bytes)
{
    for (uint32_t i = 0; i < SHARED_CHUNKS; i++) {
        uintptr_t chunk = (uintptr_t)atomic_load(&table->chunks[i]);
        if (chunk)
            add_span(held, chunk, chunk + ((size_t)SHARED_CHUNK_FIRST << i) * entry_bytes);
    }
}

/* What has to stay of memory that is open only for the exports that are kept: these, and what leads
 * to them. */
static void add_kept(struct core *core, int32_t pipid, struct held *held)
{
    const struct sharing *sharing = core_slot(core, pipid)->peer.sharing;

    add_span(held, (uintptr_t)sharing, (uintptr_t)(sharing + 1));
    add_table(held, &sharing->exports, sizeof(struct export_entry));
    add_table(held, &sharing->holds, sizeof(struct hold_entry));
    for (uint32_t i = 0; i < atomic_load(&sharing->exports.used); i++) {
        const struct export_record *record = atomic_load(&exports_at(sharing, i)->record);
        if (exports_state(atomic_load(&exports_at(sharing, i)->word)) != EXPORT_PUBLISHED)
            continue;
        add_span(held, (uintptr_t)record, (uintptr_t)record + export_record_bytes(record));
        if (record->start < record->end)
            add_span(held, record->start, record->end);
    }
}

/* Tell all of whom an ended task holds something. */
static void tell_of_holds(struct core *core, const struct sharing *sharing)
{
    const struct hold_entry *entry;

    for (uint32_t index = 0; (entry = holds_next(sharing, &index, 0, 0)) != NULL; index++)
        if (atomic_load(&entry->word))
            peer_tell_dropped(core->control, atomic_load(&entry->word));
}

/* Close the memory of a slot's task that has ended: from now on nobody can hold it anew, and what it
 * held itself counts no more.  False when that is too early: its end was not acknowledged, or an export
 * is to be kept. */
static bool close_memory(struct core *core, int32_t pipid)
{
    struct peer *peer = &core_slot(core, pipid)->peer;

    if (!atomic_load(&peer->open))
        return true;
    if (!core->tasks[pipid].acknowledged || is_kept(core, pipid))
        return false;
    atomic_store(&peer->open, 0);
    KILL_POINT(CLOSE_CLOSED);
    peer_announce(core->control, peer);
    tell_of_holds(core, peer->sharing);
    KILL_POINT(CLOSE_TOLD);
    return true;
}

void reclaim_acknowledge(struct core *core, int32_t pipid)
{
    core->tasks[pipid].acknowledged = true;
    if (atomic_load(&core_slot(core, pipid)->state) != SLOT_ENDED)
        return;
    /* Is it kept itself, its imports still keep no other task's exports from now on. */
    if (!close_memory(core, pipid))
        tell_of_holds(core, core_slot(core, pipid)->peer.sharing);
    core_let_go(core, pipid);
}

/* ---- Giving back ------------------------------------------------------------------------------ */

void reclaim_memory(struct core *core, int32_t pipid, enum core_side side)
{
    struct task *task = &core->tasks[pipid];
    struct held held = {.all = true};

    bool closed = close_memory(core, pipid);
    if (task->acknowledged) {
        look_for_holds(core, pipid, &held);
        if (!closed)
            add_kept(core, pipid, &held);
        KILL_POINT(RECLAIM_LOOKED);
    }
    task->memory = held.all || held.count ? MEMORY_HELD : MEMORY_UNMAPPING;
    if (!held.all) {
        bool keep = closed && held.count == 0 && !task->trimmed && !core->stopping;
        /* One thread does this, the reaper; behind its end several may. */
        if (!core->stopped)
            core_unlock(core, side);
        KILL_POINT(RECLAIM_UNMAPPING);
        int result =
            keep && warm_keep(core, pipid) ? 0 : window_unmap(core, pipid, held.spans, held.count);
        KILL_POINT(RECLAIM_UNMAPPED);
        if (!core->stopped)
            core_lock(core);
        /* Who had the rest may have let go of it meanwhile (core_let_go): it is going all the same. */
        enum memory_state rest = task->memory == MEMORY_PENDING ? MEMORY_PENDING : MEMORY_HELD;
        bool left = core_slot(core, pipid)->block || task->trimmed;
        task->memory = result < 0 ? MEMORY_STUCK : left ? rest : MEMORY_NONE;
        if (result < 0)
            atomic_fetch_add(&core->control->untracked, 1);
    }
    free(held.spans);
    core_settle(core, pipid);
}

/* Give back what a slot's task has left, or put it aside until something changes. */
static void reclaim(struct core *core, int32_t pipid)
{
    core_lock(core);
    reclaim_memory(core, pipid, SIDE_REAPER);
    enum memory_state memory = core->tasks[pipid].memory;
    core->tasks[pipid].aside = memory == MEMORY_HELD || memory == MEMORY_PENDING;
    core_unlock(core, SIDE_REAPER);
}

/* ---- Orphans ---------------------------------------------------------------------------------- */

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
        reclaim(reaper->core, pipid);
    else if (reaper->suspects.first != NO_TASK &&
             (!reaper->look_wait_ms || core_now_ns() >= reaper->next_look_ns))
        clear_suspects(reaper);
}
