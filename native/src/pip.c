/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pip.c: <pip/pip.h>, as it works in a task.  The signs of errors change here.
 */
#include "pip/pip.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "exports.h"
#include "shared.h"

/* The caller's block; NULL when it is no task, or a child of one. */
static struct task_block *this_task(void)
{
    struct task_block *block = (struct task_block *)getauxval(SHARED_AUXV_TYPE);

    if (!block || block->magic != SHARED_MAGIC || block->abi_version != AIOPIP_ABI_VERSION ||
        atomic_load(&block->pid) != getpid())
        return NULL;
    return block;
}

int pip_isa_task(void)
{
    return this_task() != NULL;
}

int pip_get_pipid(int *pipid)
{
    struct task_block *block = this_task();

    if (!block)
        return EPERM;
    if (pipid)
        *pipid = block->pipid;
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

    return bytes < 0 || bytes > EXPORT_NAME_MAX ? -EINVAL : bytes;
}

/* Tell who waits: first the entry, then the doorbell for tasks; and the root, when it looks out for
 * exports, which it says before it looks at the table. */
static void announce(struct task_block *block)
{
    struct slot *slot = block->slot;
    struct control *control = block->control;

    shared_ring_doorbell(&slot->doorbell);
    if (atomic_load(&slot->interest)) {
        atomic_fetch_or(&control->attention[block->pipid / 64], 1UL << (block->pipid % 64));
        shared_wake_spawner(control);
    }
}

int pip_named_export(void *address, const char *format, ...)
{
    struct task_block *block = this_task();
    char name[EXPORT_NAME_MAX + 1];
    va_list arguments;

    if (!block)
        return EPERM;
    va_start(arguments, format);
    int bytes = make_name(name, format, arguments);
    va_end(arguments);
    int result = bytes < 0 ? bytes : exports_add(&block->exports, name, (size_t)bytes, address);
    if (result == 0)
        announce(block);
    return -result;
}

/* ---- Imports ---------------------------------------------------------------------------------- */

/* Whose exports are looked into, and what tells that there are new ones. */
struct exporter {
    struct export_table *table;
    _Atomic uint32_t *doorbell;
    struct slot *slot; /* NULL: the root */
    uint64_t generation;
    _Atomic uint64_t *hold; /* in our hold table */
};

static bool runs(const struct exporter *exporter)
{
    return !exporter->slot || (atomic_load(&exporter->slot->state) == SLOT_RUNNING &&
                               atomic_load(&exporter->slot->generation) == exporter->generation);
}

/* Whether a slot's first task is still to come: one that is queued starts or fails within moments,
 * and one whose turn has not come may be spawned.  Both ring the doorbell. */
static bool is_to_come(struct slot *slot)
{
    uint32_t state = atomic_load(&slot->state);

    return state == SLOT_QUEUED || (state == SLOT_FREE && atomic_load(&slot->generation) == 0);
}

/* Give the hold back.  Has the exporter ended, the reaper may have seen it and put the memory aside:
 * it is told to look again. */
static void drop_exporter(struct task_block *block, struct exporter *exporter)
{
    if (!exporter->slot)
        return;
    exports_drop(exporter->hold, exporter->generation);
    if (!runs(exporter)) {
        atomic_store(&block->control->holds_dropped, 1);
        shared_wake_spawner(block->control);
    }
}

/* Hold the exporter's memory.  First the hold, then the look whether it still runs: the reaper first
 * marks the end, then reads the holds.  0, -ECANCELED, -EAGAIN (not started yet). */
static int hold_exporter(struct task_block *block, int32_t pipid, struct exporter *exporter)
{
    struct slot *slot = &block->control->slots[pipid];

    exporter->slot = slot;
    exporter->doorbell = &slot->doorbell;
    exporter->hold = &block->holds[pipid];
    exporter->generation = atomic_load(&slot->generation);
    if (is_to_come(slot))
        return -EAGAIN;
    if (!exports_hold(exporter->hold, exporter->generation))
        return -ECANCELED;
    atomic_store(&slot->held, 1);
    if (!runs(exporter)) {
        drop_exporter(block, exporter);
        return -ECANCELED;
    }
    exporter->table = &slot->block->exports;
    return 0;
}

static int find_exporter(struct task_block *block, int pipid, struct exporter *exporter)
{
    if (pipid == PIP_PIPID_ROOT) {
        exporter->table = &block->control->exports;
        exporter->doorbell = &block->control->exports_doorbell;
        exporter->slot = NULL;
        return 0;
    }
    if (pipid == PIP_PIPID_MYSELF)
        pipid = block->pipid;
    if (pipid < 0 || (uint32_t)pipid >= block->control->max_tasks)
        return -ERANGE;
    return hold_exporter(block, pipid, exporter);
}

/* Look, and wait when asked to.  What is found stays held until this task ends. */
static int import(struct task_block *block, int pipid, const char *name, size_t bytes, bool wait,
                  void **address)
{
    struct exporter exporter = {0};
    void *found = NULL;
    int result;

    while ((result = find_exporter(block, pipid, &exporter)) == -EAGAIN && wait) {
        uint32_t rings = atomic_load(exporter.doorbell);
        if (is_to_come(exporter.slot))
            shared_futex_wait(exporter.doorbell, rings, NULL);
    }
    if (result < 0)
        return result;
    for (;;) {
        uint32_t rings = atomic_load(exporter.doorbell);
        bool alive = runs(&exporter); /* before the look: what it exported before its end counts */
        if (exports_find(exporter.table, name, bytes, &found))
            break;
        if (!alive)
            result = -ECANCELED;
        else if (exporter.slot == block->slot)
            result = wait ? -EDEADLK : -EAGAIN;
        else if (!wait)
            result = -EAGAIN;
        if (result < 0) {
            drop_exporter(block, &exporter);
            return result;
        }
        shared_futex_wait(exporter.doorbell, rings, NULL);
    }
    if (address)
        *address = found;
    return 0;
}

static int import_name(int pipid, bool wait, void **address, const char *format, va_list arguments)
{
    struct task_block *block = this_task();
    char name[EXPORT_NAME_MAX + 1];

    if (!block)
        return EPERM;
    int bytes = make_name(name, format, arguments);
    return -(bytes < 0 ? bytes : import(block, pipid, name, (size_t)bytes, wait, address));
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
