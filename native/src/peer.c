/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peer.c: how processes of the space give each other memory without a lock between them.
 *
 * Three parties meet: the importer, who may be killed at any instruction; the exporter, likewise, who
 * may take its array back; and the reaper, who unmaps what the dead have left.
 *
 *     importer                         reaper                       exporter
 *     writes a hold of the peer        closes the peer (open = 0)
 *     peer.open == generation?         reads all holds
 *     looks for the name
 *     turns the hold into one                                       marks it withdrawn
 *       of the export                                               reads all holds
 *     word of the export unchanged?
 *
 * Each writes first, then looks, so in each column pair one sees the other: either the importer
 * finds the peer closed, or the export changed, and lets go; or its hold is found.  A hold is turned
 * into another by one store, so that no look finds neither.  Where one hold follows from another (a
 * narrower one, or that of a Region which was exported again) peer.transfers is counted up after
 * the new one was written and before the old one goes, and who has looked, looks again.
 *
 * Who gives up a hold first clears it, then rings who might wait for that; who waits first says so,
 * then looks.
 */
#include "peer.h"

#include <errno.h>
#include <string.h>

#include "exports.h"
#include "holds.h"
#include "kill_points.h"

#define IMPORT_TRIES 1000 /* an exporter cannot withdraw so often while one import looks */
#define LOOK_TRIES 100    /* then somebody is taken to hold it, and it is looked again later */

int64_t peer_number(const struct aiopip_peer *self, int32_t pipid)
{
    if (pipid == AIOPIP_PIPID_ROOT)
        return PEER_ROOT;
    return pipid >= 0 && (uint32_t)pipid < self->control->max_tasks ? pipid : -ERANGE;
}

/* ---- Ringing ---------------------------------------------------------------------------------- */

void peer_ring(struct control *control, uint32_t number)
{
    if (number == PEER_ROOT) {
        atomic_store(&control->releases, 1);
        shared_wake_spawner(control);
        return;
    }
    _Atomic uint32_t *bell = &control->slots[number].peer.bell;
    atomic_fetch_add(bell, 1);
    shared_futex_wake(bell, INT32_MAX);
}

void peer_announce(struct control *control, struct peer *peer)
{
    for (uint32_t i = 0; i < (control->max_tasks + 63) / 64; i++) {
        uint64_t bits = atomic_load(&peer->waiters[i]) ? atomic_exchange(&peer->waiters[i], 0) : 0;
        for (; bits; bits &= bits - 1)
            peer_ring(control, i * 64 + (uint32_t)__builtin_ctzll(bits));
    }
}

void peer_look(struct control *control, uint32_t number)
{
    atomic_fetch_or(&control->looks[number / 64], 1UL << number % 64);
    atomic_store(&control->looks_wanted, 1);
    shared_wake_spawner(control);
}

/* Of a task that has ended less is held than before: more of its memory may go. */
static void look_if_ended(struct control *control, uint32_t number)
{
    if (number != PEER_ROOT && atomic_load(&control->slots[number].state) == SLOT_ENDED)
        peer_look(control, number);
}

void peer_tell_dropped(struct control *control, uint64_t word)
{
    uint32_t number = holds_peer(word);

    if (holds_is_of_export(word) && atomic_load(&shared_peer(control, number)->wants_releases))
        peer_ring(control, number);
    look_if_ended(control, number);
}

bool peer_is_to_come(struct control *control, uint32_t number)
{
    if (number == PEER_ROOT)
        return false;
    struct slot *slot = &control->slots[number];
    uint32_t state = atomic_load(&slot->state);
    /* Who was cloned is open, though the spawner may not have come to say that it runs. */
    return state == SLOT_TAKEN || (state == SLOT_QUEUED && atomic_load(&slot->peer.open) == 0) ||
           (state == SLOT_FREE && atomic_load(&slot->peer.generation) == 0);
}

bool peer_runs(struct control *control, uint32_t number, uint64_t generation)
{
    if (number == PEER_ROOT)
        return true;
    struct slot *slot = &control->slots[number];
    uint32_t state = atomic_load(&slot->state);
    return (state == SLOT_RUNNING || state == SLOT_QUEUED) &&
           atomic_load(&slot->peer.generation) == generation;
}

/* ---- Holds ------------------------------------------------------------------------------------ */

void peer_drop(struct aiopip_peer *self, uint32_t hold)
{
    uint64_t word = atomic_load(&holds_at(self->sharing, hold)->word);

    KILL_POINT(DROP_ENTERED);
    holds_drop(self->sharing, hold);
    peer_tell_dropped(self->control, word);
    KILL_POINT(DROP_TOLD);
}

/* Turn a hold into another one of the same peer. */
static void turn(struct aiopip_peer *self, uint32_t hold, uint64_t word)
{
    struct hold_entry *entry = holds_at(self->sharing, hold);
    uint64_t old = atomic_exchange(&entry->word, word);

    if (holds_is_of_export(old))
        peer_tell_dropped(self->control, old);
}

static void say_that_we_import(struct aiopip_peer *self, struct peer *peer)
{
    /* The root's holds are always looked at. */
    if (self->number != PEER_ROOT)
        shared_set_bit(peer->importers, self->number);
}

/* Hold all of a peer's memory: the hold, -EAGAIN when it has not started, -ECANCELED when the
 * generation is over. */
static int64_t hold_peer(struct aiopip_peer *self, uint32_t number, uint64_t *generation)
{
    struct peer *peer = shared_peer(self->control, number);
    uint64_t now;

    /* Is the slot taken between the looks, the state is that of another generation: it is looked
     * again.  Or else the first task of a slot could have generation 0, which is not open, and be
     * found to be over before it has begun. */
    do {
        now = atomic_load(&peer->generation);
        if (*generation && *generation != now)
            return -ECANCELED;
        if (peer_is_to_come(self->control, number))
            return -EAGAIN;
    } while (now != atomic_load(&peer->generation));
    *generation = now;
    /* Also before: a hold that is not to last would have the reaper put the memory aside, and a spawn
     * be told that somebody has it. */
    if (atomic_load(&peer->open) != now)
        return -ECANCELED;
    say_that_we_import(self, peer);
    int64_t hold = holds_add(self->sharing, holds_word_of_all(number), 0, UINTPTR_MAX);
    if (hold < 0)
        return hold;
    if (atomic_load(&peer->open) == now) {
        KILL_POINT(IMPORT_OPEN);
        return hold;
    }
    peer_drop(self, (uint32_t)hold);
    return -ECANCELED;
}

int64_t peer_take_over(struct aiopip_peer *self, uint64_t word, uintptr_t start, uintptr_t end)
{
    struct peer *peer = shared_peer(self->control, holds_peer(word));

    say_that_we_import(self, peer);
    int64_t hold = holds_add(self->sharing, word, start, end);
    if (hold >= 0)
        atomic_fetch_add(&peer->transfers, 1);
    return hold;
}

bool peer_owns(const struct control *control, uint32_t number, uintptr_t start, size_t bytes)
{
    if (number == PEER_ROOT)
        return start + bytes <= control->windows || start >= control->overflow_end;
    const struct task_block *block = control->slots[number].block;
    uintptr_t window = control->windows + (size_t)number * control->window_bytes;

    if (!block)
        return false; /* but for what is held page by page it is gone */
    if (start >= window && start - window < control->window_bytes)
        return bytes <= control->window_bytes - (start - window);
    for (int i = 0; i < SHARED_OUTSIDE; i++) {
        uintptr_t from = atomic_load(&block->outside[i].start);
        uintptr_t to = atomic_load(&block->outside[i].end);
        if (to > 1 && from <= start && start < to && bytes <= to - start)
            return true;
    }
    return false;
}

/* Beyond the windows any task may have written the range down; its list is looked at while it is held. */
static int64_t hold_outside(struct aiopip_peer *self, uintptr_t start, size_t bytes,
                            uint32_t *number, uint64_t *generation)
{
    for (*number = 0; *number < self->control->max_tasks; ++*number) {
        *generation = 0;
        if (*number == self->number || !atomic_load(&self->control->slots[*number].peer.open))
            continue;
        int64_t hold = hold_peer(self, *number, generation);
        if (hold == -ECANCELED || hold == -EAGAIN)
            continue;
        if (hold < 0 || peer_owns(self->control, *number, start, bytes))
            return hold;
        peer_drop(self, (uint32_t)hold);
    }
    return -ENOENT;
}

int64_t peer_hold_owner(struct aiopip_peer *self, uintptr_t start, size_t bytes, uint32_t *number,
                        uint64_t *generation)
{
    const struct control *control = self->control;
    uintptr_t ahead = start - control->windows, slot = ahead / control->window_bytes;

    *generation = 0;
    if (start >= control->overflow_start && start < control->overflow_end)
        return hold_outside(self, start, bytes, number, generation);
    if (start < control->windows || slot >= control->max_tasks || slot == self->number ||
        bytes > control->window_bytes - ahead % control->window_bytes)
        return -ENOENT;
    *number = (uint32_t)slot;
    int64_t hold = hold_peer(self, *number, generation);
    return hold == -EAGAIN ? -ECANCELED : hold;
}

/* ---- Who holds an export ---------------------------------------------------------------------- */

static bool has_hold(const struct sharing *sharing, uint64_t word)
{
    uint32_t index = 0;

    return holds_next(sharing, &index, HOLDS_OF_EXPORT, word) != NULL;
}

/* Whether one task holds what a word says.  Its table is its own memory: it is held for the look. */
static bool task_holds(struct aiopip_peer *self, uint32_t number, uint64_t word)
{
    struct peer *peer = shared_peer(self->control, number);
    uint64_t generation = 0;

    if (number == self->number)
        return has_hold(self->sharing, word);
    int64_t hold = hold_peer(self, number, &generation);
    if (hold == -ECANCELED || hold == -EAGAIN)
        return false;
    if (hold < 0)
        return true; /* no memory to look: looked again at the next drop */
    bool holds = has_hold(peer->sharing, word);
    peer_drop(self, (uint32_t)hold);
    return holds;
}

static bool somebody_holds(struct aiopip_peer *self, uint64_t word)
{
    struct control *control = self->control;

    if (has_hold(&control->root_sharing, word))
        return true;
    for (uint32_t i = 0; i < (control->max_tasks + 63) / 64; i++)
        for (uint64_t bits = atomic_load(&self->peer->importers[i]); bits; bits &= bits - 1)
            if (task_holds(self, i * 64 + (uint32_t)__builtin_ctzll(bits), word))
                return true;
    return false;
}

bool peer_export_is_held(struct aiopip_peer *self, uint64_t id)
{
    uint64_t word = holds_word(self->number, id);

    for (int i = 0; i < LOOK_TRIES; i++) {
        uint64_t transfers = atomic_load(&self->peer->transfers);
        if (somebody_holds(self, word))
            return true;
        if (transfers == atomic_load(&self->peer->transfers))
            return false;
    }
    /* Nobody may give it up any more, and so nobody else would tell. */
    peer_ring(self->control, self->number);
    return true;
}

/* ---- Importing -------------------------------------------------------------------------------- */

static void mark(struct export_entry *entry, enum export_marks marks)
{
    if ((atomic_load(&entry->marks) & marks) != marks)
        atomic_fetch_or(&entry->marks, marks);
}

/* Hold an export that was seen, and see that it is still the same, of that name. */
static const struct export_record *claim(struct aiopip_peer *self, uint32_t number, uint32_t hold,
                                         uint32_t index, uint64_t word, const char *name,
                                         size_t bytes, bool *changed)
{
    struct export_entry *entry = exports_at(shared_peer(self->control, number)->sharing, index);

    turn(self, hold, holds_word(number, exports_id(index, word)));
    KILL_POINT(IMPORT_CLAIMED);
    mark(entry, EXPORT_LOOKED_AT);
    *changed = atomic_load(&entry->word) != word;
    if (*changed)
        return NULL;
    const struct export_record *record = atomic_load(&entry->record);
    if (record->name_bytes != bytes || memcmp(export_name(record), name, bytes) != 0)
        return NULL;
    mark(entry, EXPORT_IMPORTED);
    KILL_POINT(IMPORT_CHECKED);
    return record;
}

static const struct export_record *find(struct aiopip_peer *self, uint32_t number, uint32_t hold,
                                        const char *name, size_t bytes)
{
    const struct sharing *sharing = shared_peer(self->control, number)->sharing;
    uint32_t hash = exports_hash(name, bytes), index = 0;
    const struct export_record *record;
    uint64_t word;
    bool changed;

    for (int i = 0; i < IMPORT_TRIES && (word = exports_next(sharing, hash, &index)) != 0;) {
        KILL_POINT(IMPORT_FOUND);
        record = claim(self, number, hold, index, word, name, bytes, &changed);
        if (record)
            return record;
        turn(self, hold, holds_word_of_all(number));
        /* Withdrawn meanwhile; it may have been exported anew, in any place. */
        index = changed ? 0 : index + 1;
        i += changed;
    }
    return NULL;
}

/* What the exporter has from somebody else is held of that one too.  As long as the exporter is open
 * its own hold counts, and it keeps that as long as we hold the export. */
static int follow(struct aiopip_peer *self, uint32_t number, struct import *import)
{
    const struct export_record *record = import->record;

    import->origin = -1;
    if (!record->origin)
        return 0;
    int64_t origin = peer_take_over(self, record->origin, record->start, record->end);
    if (origin < 0)
        return (int)origin;
    KILL_POINT(IMPORT_FORWARDED);
    if (atomic_load(&shared_peer(self->control, number)->open) != import->generation) {
        peer_drop(self, (uint32_t)origin);
        return -ECANCELED;
    }
    import->origin = origin;
    return 0;
}

int peer_import(struct aiopip_peer *self, uint32_t number, const char *name, size_t bytes,
                struct import *import)
{
    KILL_POINT(IMPORT_ENTERED);
    int64_t hold = hold_peer(self, number, &import->generation);
    if (hold < 0)
        return (int)hold;
    /* Before the look: what it exported before its end counts. */
    bool runs = peer_runs(self->control, number, import->generation);
    import->hold = (uint32_t)hold;
    import->record = find(self, number, import->hold, name, bytes);
    int result = import->record ? follow(self, number, import) : runs ? -EAGAIN : -ECANCELED;
    if (result < 0)
        peer_drop(self, import->hold);
    KILL_POINT(IMPORT_DONE);
    return result;
}

void peer_settle(struct aiopip_peer *self, const struct import *import)
{
    holds_settle(self->sharing, import->hold);
    if (import->origin >= 0)
        holds_settle(self->sharing, (uint32_t)import->origin);
}

void peer_narrow(struct aiopip_peer *self, const struct import *import, uintptr_t start,
                 uintptr_t end)
{
    struct hold_entry *entry = holds_at(self->sharing, import->hold);

    /* Narrower by two stores: whoever reads in between sees more.  Where we have it from somebody
     * else, nothing of the exporter's own memory has to stay. */
    atomic_store(&entry->start, import->origin < 0 ? start : 0);
    atomic_store(&entry->end, import->origin < 0 ? end : 0);
    KILL_POINT(IMPORT_NARROWED);
    peer_settle(self, import);
    /* The reaper may have seen that all is held, and put the rest aside. */
    look_if_ended(self->control, holds_peer(atomic_load(&entry->word)));
}

void peer_expect(struct aiopip_peer *self, uint32_t number, struct aiopip_word *word)
{
    struct peer *peer = shared_peer(self->control, number);

    /* First the word, then the bit, then the caller looks; who has something new first publishes it,
     * then takes the bit and changes the word. */
    word->address = (uint32_t *)&self->peer->bell;
    word->value = atomic_load(&self->peer->bell);
    atomic_fetch_or(&peer->waiters[self->number / 64], 1UL << self->number % 64);
}
