/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sharing.c: exports, and waiting for what others export, as the root's and tasks' programs call it.
 */
#include <errno.h>
#include <unistd.h>

#include "core.h"
#include "exports.h"
#include "kill_points.h"
#include "lock.h"

int aiopip_join(aiopip_peer **peer, uint32_t *abi_version)
{
    int error;
    struct aiopip_peer *self = peer_of_task(&error, abi_version);

    if (self)
        *peer = self;
    return error;
}

aiopip_peer *aiopip_peer_of_client(aiopip_client *client)
{
    return &client->core->self;
}

void aiopip_peer_keep(aiopip_peer *peer)
{
    if (peer->core && peer->pid == getpid())
        core_keep(peer->core);
}

void aiopip_peer_release(aiopip_peer *peer)
{
    if (peer->core && peer->pid == getpid())
        core_release(peer->core);
}

int32_t aiopip_peer_pipid(const aiopip_peer *peer)
{
    return peer->number == PEER_ROOT ? AIOPIP_PIPID_ROOT : (int32_t)peer->number;
}

int64_t aiopip_generation(const aiopip_peer *peer, int32_t pipid)
{
    int64_t number = peer_number(peer, pipid);

    return number < 0
               ? number
               : (int64_t)atomic_load(&shared_peer(peer->control, (uint32_t)number)->generation);
}

/* ---- Exports ---------------------------------------------------------------------------------- */

int aiopip_export(aiopip_peer *peer, const char *name, size_t name_bytes,
                  const struct aiopip_array *array, uint64_t *id)
{
    if (peer->pid != getpid())
        return -ESRCH;
    if (!exports_is_name(name, name_bytes) || array->ndim > AIOPIP_MAX_NDIM ||
        array->start > array->end)
        return -EINVAL;
    return peer_export(peer, name, name_bytes, array, id);
}

/* Whether somebody holds a withdrawn export.  The wish to be told of releases comes before the look:
 * who gives a hold up first clears it, then looks for that wish. */
static bool is_held(struct aiopip_peer *self, uint64_t id)
{
    if (!atomic_load(&exports_at(self->sharing, exports_index(id))->marks))
        return false;
    atomic_store(&self->peer->wants_releases, 1);
    KILL_POINT(WITHDRAW_LISTENS);
    return peer_export_is_held(self, id);
}

int aiopip_withdraw(aiopip_peer *peer, uint64_t id)
{
    if (peer->pid != getpid())
        return -ESRCH;
    int result = exports_withdraw(peer->sharing, id);
    if (result < 0)
        return result;
    KILL_POINT(WITHDRAW_LOOKS);
    /* Another thread's aiopip_released() may be quicker to free it, and tells of it. */
    return is_held(peer, id) || !peer_free_export(peer, id);
}

int aiopip_released(aiopip_peer *peer, uint64_t *ids, int count)
{
    int found = 0;
    uint64_t id;

    if (peer->pid != getpid())
        return -ESRCH;
    /* Whoever waits still sets it again: we, for all that are withdrawn by now, or another thread. */
    atomic_store(&peer->peer->wants_releases, 0);
    for (uint32_t index = 0; exports_next_withdrawn(peer->sharing, &index, &id); index++) {
        if (!is_held(peer, id) && found < count && peer_free_export(peer, id))
            ids[found++] = id;
    }
    return found;
}

/* ---- Waiting ---------------------------------------------------------------------------------- */

int aiopip_expect(aiopip_peer *peer, int32_t pipid, struct aiopip_word *word)
{
    int64_t number = peer_number(peer, pipid);

    if (number < 0)
        return (int)number;
    if (peer->number == PEER_ROOT)
        return -EINVAL; /* it has events */
    peer_expect(peer, (uint32_t)number, word);
    return 0;
}

/* ---- Locks ------------------------------------------------------------------------------------ */

int aiopip_lock_of_peer(aiopip_peer *peer, uintptr_t lock, enum aiopip_lock_call call,
                        struct aiopip_word *words)
{
    aiopip_lock_t *at = (aiopip_lock_t *)lock;

    if (atomic_load(&peer->is_copy)) /* getpid() would be a system call */
        return -ESRCH;
    switch (call) {
    case AIOPIP_LOCK_TRY:
        return lock_try(peer, at, words);
    case AIOPIP_LOCK_RELEASE:
        return lock_release(peer, at);
    case AIOPIP_LOCK_RECOVER:
        return lock_recover(peer, at);
    }
    return -EINVAL;
}

int aiopip_lock_owner(aiopip_peer *peer, uintptr_t lock, int32_t *pipid)
{
    int64_t owner = lock_owner(peer, (aiopip_lock_t *)lock);

    if (owner < 0)
        return owner == -1 ? 0 : (int)owner;
    *pipid = owner == PEER_ROOT ? AIOPIP_PIPID_ROOT : (int32_t)owner;
    return 1;
}
