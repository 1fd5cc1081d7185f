/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.h: what happens at the points of src/kill_points.h in a test.
 */
#ifndef TESTS_KILL_POINTS_H
#define TESTS_KILL_POINTS_H

#include "../src/kill_points.h"

/* Called at each point, by the thread that has come there; NULL: nothing happens. */
extern void (*kill_point_hook)(enum kill_point point);

#endif
