/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.c: see kill_points.h.
 */
#include "kill_points.h"

#include <stddef.h>

#include "../src/shared.h"

static enum kill_point pausing;
static _Atomic uint32_t paused, rounds; /* rounds: of pause and resume */

void (*kill_point_hook)(enum kill_point point);

void kill_point(enum kill_point point)
{
    void (*hook)(enum kill_point) = kill_point_hook; /* another thread may take it away */

    if (hook)
        hook(point);
}

static void pause_here(enum kill_point point)
{
    uint32_t round = atomic_load(&rounds);

    if (point != pausing)
        return;
    atomic_store(&paused, 1);
    while (atomic_load(&rounds) == round)
        shared_futex_wait(&rounds, round, NULL);
}

void kill_point_pause(enum kill_point point)
{
    pausing = point;
    atomic_store(&paused, 0);
    kill_point_hook = pause_here;
}

bool kill_point_is_paused(void)
{
    return atomic_load(&paused);
}

void kill_point_resume(void)
{
    kill_point_hook = NULL;
    atomic_fetch_add(&rounds, 1);
    shared_futex_wake(&rounds, INT32_MAX);
}
