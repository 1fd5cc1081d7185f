/* SPDX-License-Identifier: BSD-2-Clause
 *
 * imports.c: what is imported, by the root and by tasks, as their programs hold it.
 *
 * A hold of a root keeps its core, too: a Region may outlive its Root.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "exports.h"
#include "holds.h"

struct aiopip_hold {
    struct aiopip_peer *self;
    struct import import; /* the record is a copy of our own */
    uintptr_t start, end; /* of it, as our holds say it */
};

static struct aiopip_hold *make_hold(struct aiopip_peer *self, const struct import *import)
{
    size_t bytes = export_record_bytes(import->record);
    struct aiopip_hold *hold = malloc(sizeof *hold + bytes);

    if (!hold)
        return NULL;
    hold->self = self;
    hold->import = *import;
    hold->import.record = memcpy(hold + 1, import->record, bytes);
    hold->start = import->record->start;
    hold->end = import->record->end;
    return hold;
}

static void drop(struct aiopip_peer *self, uint32_t entry)
{
    uint32_t number = holds_peer(atomic_load(&holds_at(self->sharing, entry)->word));

    peer_drop(self, entry);
    if (!self->core || number == PEER_ROOT)
        return;
    core_lock(self->core);
    core_let_go(self->core, (int32_t)number);
    core_unlock(self->core, SIDE_PROCESS);
}

static void drop_import(struct aiopip_peer *self, const struct import *import)
{
    drop(self, import->hold);
    if (import->origin >= 0)
        drop(self, (uint32_t)import->origin);
}

/* Make a hold of the program's of what is held, of no more than that: 0, or -ENOMEM, and it is let go. */
static int hand_over(struct aiopip_peer *self, const struct import *import, aiopip_hold **hold)
{
    struct aiopip_hold *made = make_hold(self, import);

    if (!made) {
        drop_import(self, import);
        return -ENOMEM;
    }
    /* Behind the copy: the record is memory of the exporter's too, which may have ended by now, and
     * the reaper unmaps what no hold names. */
    peer_narrow(self, import, made->start, made->end);
    aiopip_peer_keep(self);
    *hold = made;
    return 0;
}

int aiopip_import(aiopip_peer *peer, int32_t pipid, uint64_t generation, const char *name,
                  size_t name_bytes, aiopip_hold **hold)
{
    int64_t number = peer_number(peer, pipid);
    struct import import = {.generation = generation};

    if (peer->pid != getpid())
        return -ESRCH;
    if (number < 0)
        return (int)number;
    if (!exports_is_name(name, name_bytes))
        return -EINVAL;
    int result = peer_import(peer, (uint32_t)number, name, name_bytes, &import);
    if (result < 0)
        return result;
    return hand_over(peer, &import, hold);
}

int aiopip_named_import(aiopip_client *client, int32_t pipid, uint64_t generation, const char *name,
                        size_t name_bytes, aiopip_hold **hold)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    if (!exports_is_name(name, name_bytes))
        return -EINVAL;
    core_lock(core);
    struct task *task = core_task(core, pipid, generation);
    pid_t pid = task ? task->pid : 0;
    core_unlock(core, SIDE_PROCESS);
    if (!task)
        return -ECANCELED;
    /* First the interest, then the look; the task first publishes, then looks for interest. */
    struct slot *slot = core_slot(core, pipid);
    atomic_store(&slot->interest, 1);
    int result = aiopip_import(&core->self, pipid, generation, name, name_bytes, hold);
    if (result != -EAGAIN || atomic_load(&slot->state) != SLOT_RUNNING || on_our_memory(core, pid))
        return result;
    /* It has left by an exec; it may have exported between the look and that. */
    result = aiopip_import(&core->self, pipid, generation, name, name_bytes, hold);
    return result == -EAGAIN ? -ECANCELED : result;
}

int aiopip_hold_memory(aiopip_peer *peer, uintptr_t address, size_t bytes, aiopip_hold **hold)
{
    struct export_record record = {.address = address,
                                   .start = bytes ? address : 0,
                                   .end = bytes ? address + bytes : UINTPTR_MAX};
    struct import import = {.record = &record, .origin = -1};
    uint32_t owner;

    if (peer->pid != getpid())
        return -ESRCH;
    int64_t entry = peer_hold_owner(peer, address, bytes ? bytes : 1, &owner, &import.generation);
    if (entry < 0)
        return (int)entry;
    import.hold = (uint32_t)entry;
    return hand_over(peer, &import, hold);
}

void aiopip_hold_array(const aiopip_hold *hold, struct aiopip_array *array)
{
    const struct export_record *record = hold->import.record;

    *array = (struct aiopip_array){.address = record->address,
                                   .start = hold->start,
                                   .end = hold->end,
                                   .flags = record->flags,
                                   .ndim = record->ndim,
                                   .dims = record->dims,
                                   .dtype = export_dtype(record),
                                   .dtype_bytes = record->dtype_bytes};
}

/* Where the memory is: its exporter's, or that of the one from whom the exporter has it. */
static uint64_t word_of(const struct aiopip_hold *hold)
{
    const struct import *import = &hold->import;
    uint32_t entry = import->origin >= 0 ? (uint32_t)import->origin : import->hold;

    return atomic_load(&holds_at(hold->self->sharing, entry)->word);
}

int aiopip_hold_check(const aiopip_hold *hold, uintptr_t address, size_t bytes)
{
    if (hold->self->pid != getpid())
        return -ESRCH;
    if (!bytes || address + bytes < address || address < hold->start || address + bytes > hold->end)
        return -EFAULT;
    /* C says where it begins, and holds all: the range is looked up in the exporter's ledger. */
    if (hold->end == UINTPTR_MAX &&
        !peer_owns(hold->self->control, holds_peer(word_of(hold)), address, bytes))
        return -EFAULT;
    return mappings_check(address, bytes);
}

int aiopip_hold_narrow(const aiopip_hold *hold, uintptr_t address, size_t bytes,
                       aiopip_hold **narrow)
{
    struct aiopip_peer *self = hold->self;

    if (self->pid != getpid())
        return -ESRCH;
    struct aiopip_hold *made = make_hold(self, &hold->import);
    if (!made)
        return -ENOMEM;
    made->start = address;
    made->end = address + bytes;
    struct import *import = &made->import;
    bool forwarded = import->origin >= 0;
    uint64_t exported = atomic_load(&holds_at(self->sharing, hold->import.hold)->word);
    int64_t first = peer_take_over(self, exported, made->start, forwarded ? 0 : made->end);
    if (first >= 0 && forwarded)
        import->origin = peer_take_over(self, word_of(hold), made->start, made->end);
    if (first < 0 || (forwarded && import->origin < 0)) {
        if (first >= 0)
            drop(self, (uint32_t)first);
        free(made);
        return -ENOMEM;
    }
    import->hold = (uint32_t)first;
    peer_settle(self, import);
    aiopip_peer_keep(self);
    *narrow = made;
    return 0;
}

void aiopip_hold_release(aiopip_hold *hold)
{
    if (hold->self->pid == getpid()) {
        drop_import(hold->self, &hold->import);
        aiopip_peer_release(hold->self);
    }
    free(hold);
}
