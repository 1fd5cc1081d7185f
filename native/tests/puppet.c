/* SPDX-License-Identifier: BSD-2-Clause
 *
 * puppet.c: see puppet.h.
 */
#include "puppet.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "pip/pip.h"

static int make(struct order *order)
{
    void *made =
        mmap(NULL, order->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    order->address = (uintptr_t)made;
    return made == MAP_FAILED ? -errno : 0;
}

/* A peer that is not told its holder's steps tries until the bell says that it is worth it. */
static int await_import(aiopip_peer *peer, struct order *order)
{
    struct aiopip_word word;
    int result;

    for (;;) {
        if ((result = aiopip_expect(peer, order->pipid, &word)) < 0)
            return result;
        result = aiopip_import(peer, order->pipid, order->generation, order->name,
                               order->name_bytes, &order->hold);
        if (result != -EAGAIN)
            return result;
        aiopip_wait(&word, 1, UINT64_MAX);
    }
}

static int await_release(aiopip_peer *peer, struct order *order)
{
    struct aiopip_word word;
    int result;

    for (;;) {
        if ((result = aiopip_expect(peer, aiopip_peer_pipid(peer), &word)) < 0)
            return result;
        result = aiopip_released(peer, order->ids, PUPPET_IDS);
        if (result != 0)
            return result;
        aiopip_wait(&word, 1, UINT64_MAX);
    }
}

static int import_by_name(struct order *order, bool wait)
{
    void *address = NULL;
    int result = wait ? pip_named_import(order->pipid, &address, "%s", order->name)
                      : pip_named_tryimport(order->pipid, &address, "%s", order->name);

    order->address = (uintptr_t)address;
    return -result;
}

static int count_up(struct order *order)
{
    volatile uint64_t *counter = (uint64_t *)order->address;
    int result = 0;

    for (size_t i = 0; i < order->bytes && result == 0; i++) {
        if ((result = aiopip_lock_acquire(order->lock, order->timeout_ms)) != 0)
            break;
        *counter = *counter + 1;
        result = aiopip_lock_release(order->lock);
    }
    return -result;
}

static int share(aiopip_peer *peer, struct order *order)
{
    switch (order->call) {
    case PUPPET_EXPORT:
        return aiopip_export(peer, order->name, order->name_bytes, &order->array, &order->id);
    case PUPPET_WITHDRAW:
        return aiopip_withdraw(peer, order->id);
    case PUPPET_RELEASED:
        return aiopip_released(peer, order->ids, PUPPET_IDS);
    case PUPPET_AWAIT_RELEASE:
        return await_release(peer, order);
    case PUPPET_IMPORT:
        return aiopip_import(peer, order->pipid, order->generation, order->name, order->name_bytes,
                             &order->hold);
    case PUPPET_AWAIT_IMPORT:
        return await_import(peer, order);
    case PUPPET_HOLD:
        return aiopip_hold_memory(peer, order->address, order->bytes, &order->hold);
    case PUPPET_NARROW:
        return aiopip_hold_narrow(order->hold, order->address, order->bytes, &order->hold);
    case PUPPET_CHECK:
        return aiopip_hold_check(order->hold, order->address, order->bytes);
    case PUPPET_RELEASE:
        aiopip_hold_release(order->hold);
        return 0;
    default:
        return -EINVAL;
    }
}

void puppet_obey(aiopip_peer *peer, struct order *order)
{
    switch (order->call) {
    case PUPPET_MAKE:
        order->result = make(order);
        break;
    case PUPPET_PIP_EXPORT:
        order->result = -pip_named_export((void *)order->address, "%s", order->name);
        break;
    case PUPPET_PIP_IMPORT:
    case PUPPET_PIP_TRY:
        order->result = import_by_name(order, order->call == PUPPET_PIP_IMPORT);
        break;
    case PUPPET_ACQUIRE:
        order->result = -aiopip_lock_acquire(order->lock, order->timeout_ms);
        break;
    case PUPPET_TRY:
        order->result = -aiopip_lock_try(order->lock);
        break;
    case PUPPET_GIVE_BACK:
        order->result = -aiopip_lock_release(order->lock);
        break;
    case PUPPET_RECOVER:
        order->result = -aiopip_lock_recover(order->lock);
        break;
    case PUPPET_COUNT_UP:
        order->result = count_up(order);
        break;
    default:
        order->result = share(peer, order);
    }
}
