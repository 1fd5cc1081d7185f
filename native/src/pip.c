/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pip.c: <pip/pip.h> and <aiopip/lock.h>, as they work in a task.  The signs of errors change here.
 */
#include "pip/pip.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "exports.h"
#include "holds.h"
#include "lock.h"
#include "peer.h"

/* NULL when it is no task, or a child of one. */
static struct aiopip_peer *this_task(void)
{
    uint32_t abi_version;
    int error;

    return peer_of_task(&error, &abi_version);
}

int pip_isa_task(void)
{
    return this_task() != NULL;
}

int pip_get_pipid(int *pipid)
{
    const struct aiopip_peer *self = this_task();

    if (!self)
        return EPERM;
    if (pipid)
        *pipid = (int)self->number;
    return 0;
}

void pip_exit(int status)
{
    exit(status);
}

/* ---- Exports ---------------------------------------------------------------------------------- */

/* A name in the manner of printf: its length, or -EINVAL. */
static int make_name(char name[EXPORT_NAME_MAX + 1], const char *format, va_list arguments)
{
    name[0] = 0;
    int bytes = format ? vsnprintf(name, EXPORT_NAME_MAX + 1, format, arguments) : 0;

    return bytes >= 0 && exports_is_name(name, (size_t)bytes) ? bytes : -EINVAL;
}

int pip_named_export(void *address, const char *format, ...)
{
    const struct aiopip_array array = {.address = (uintptr_t)address, .end = UINTPTR_MAX};
    struct aiopip_peer *self = this_task();
    char name[EXPORT_NAME_MAX + 1];
    va_list arguments;
    uint64_t id;

    if (!self)
        return EPERM;
    va_start(arguments, format);
    int bytes = make_name(name, format, arguments);
    va_end(arguments);
    return -(bytes < 0 ? bytes : peer_export(self, name, (size_t)bytes, &array, &id));
}

/* ---- Imports ---------------------------------------------------------------------------------- */

static bool covers(const struct hold_entry *wide, const struct hold_entry *narrow)
{
    return atomic_load(&wide->start) <= atomic_load(&narrow->start) &&
           atomic_load(&wide->end) >= atomic_load(&narrow->end);
}

/* What was found stays held until this task ends: once, however often it is imported.  What was
 * forwarded holds a part of its first exporter's memory, which is no replacement for all of it. */
static void keep_hold(struct aiopip_peer *self, uint32_t hold)
{
    struct hold_entry *kept = holds_at(self->sharing, hold);
    uint64_t word = atomic_load(&kept->word);

    table_lock(&self->sharing->holds);
    uint32_t index = 0;
    const struct hold_entry *other;
    while ((other = holds_next(self->sharing, &index, HOLDS_OF_EXPORT, word)) != NULL &&
           !(other->stays && covers(other, kept)))
        index++;
    kept->stays = !other;
    table_unlock(&self->sharing->holds);
    if (other)
        peer_drop(self, hold);
}

/* Look, and wait when asked to. */
static int import(struct aiopip_peer *self, int pipid, const char *name, size_t bytes, bool wait,
                  void **address)
{
    int64_t number = pipid == PIP_PIPID_MYSELF ? self->number : peer_number(self, pipid);
    /* The generation: then that of the task that is there, or comes, first. */
    struct import import = {.generation = 0};
    struct aiopip_word word;
    int result;

    if (number < 0)
        return (int)number;
    for (;;) {
        peer_expect(self, (uint32_t)number, &word);
        result = peer_import(self, (uint32_t)number, name, bytes, &import);
        if (result != -EAGAIN || !wait)
            break;
        if (number == self->number)
            return -EDEADLK;
        shared_futex_wait((_Atomic uint32_t *)word.address, word.value, NULL);
    }
    if (result < 0)
        return result;
    void *found = (void *)import.record->address;
    peer_settle(self, &import);
    keep_hold(self, import.hold);
    if (import.origin >= 0)
        keep_hold(self, (uint32_t)import.origin);
    if (address)
        *address = found;
    return 0;
}

static int import_name(int pipid, bool wait, void **address, const char *format, va_list arguments)
{
    struct aiopip_peer *self = this_task();
    char name[EXPORT_NAME_MAX + 1];

    if (!self)
        return EPERM;
    int bytes = make_name(name, format, arguments);
    return -(bytes < 0 ? bytes : import(self, pipid, name, (size_t)bytes, wait, address));
}

int pip_named_import(int pipid, void **address, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int result = import_name(pipid, true, address, format, arguments);
    va_end(arguments);
    return result;
}

int pip_named_tryimport(int pipid, void **address, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int result = import_name(pipid, false, address, format, arguments);
    va_end(arguments);
    return result;
}

/* ---- Locks ------------------------------------------------------------------------------------ */

int aiopip_lock_acquire(aiopip_lock_t *lock, int timeout_ms)
{
    struct aiopip_peer *self = peer_of_task_quickly();
    struct aiopip_word words[LOCK_WORDS];
    struct timespec now;
    int result;

    if (!self)
        return EPERM;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000UL + (uint64_t)now.tv_nsec;
    uint64_t end_ns = timeout_ms < 0 ? UINT64_MAX : now_ns + (uint64_t)timeout_ms * 1000000UL;
    while ((result = lock_try(self, lock, words)) == -EBUSY)
        if ((result = aiopip_wait(words, LOCK_WORDS, end_ns)) < 0)
            break;
    return -result;
}

int aiopip_lock_try(aiopip_lock_t *lock)
{
    struct aiopip_peer *self = peer_of_task_quickly();

    return self ? -lock_try(self, lock, NULL) : EPERM;
}

int aiopip_lock_recover(aiopip_lock_t *lock)
{
    struct aiopip_peer *self = peer_of_task_quickly();

    return self ? -lock_recover(self, lock) : EPERM;
}

int aiopip_lock_release(aiopip_lock_t *lock)
{
    struct aiopip_peer *self = peer_of_task_quickly();

    return self ? -lock_release(self, lock) : EPERM;
}
