/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.h: what happens at the points of src/kill_points.h in a test.
 */
#ifndef TESTS_KILL_POINTS_H
#define TESTS_KILL_POINTS_H

#include <stdbool.h>

#include "../src/kill_points.h"

/* Called at each point, by the thread that has come there; NULL: nothing happens. */
extern void (*kill_point_hook)(enum kill_point point);

/* Have whoever comes to a point wait there, and see whether somebody does; until all may go on. */
void kill_point_pause(enum kill_point point);
bool kill_point_is_paused(void);
void kill_point_resume(void);

#endif
