/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.c: see kill_points.h.
 */
#include "kill_points.h"

#include <stddef.h>

void (*kill_point_hook)(enum kill_point point);

void kill_point(enum kill_point point)
{
    void (*hook)(enum kill_point) = kill_point_hook; /* another thread may take it away */

    if (hook)
        hook(point);
}
