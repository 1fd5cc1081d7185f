/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.h: the steps of sharing memory, and of locks, at which the tests kill somebody.
 *
 * Only a build with -Dkill_points=true has them: there the program that is linked provides
 * kill_point(), and what happens at a point is its affair.
 */
#ifndef KILL_POINTS_H
#define KILL_POINTS_H

/* clang-format off */
#define KILL_POINTS(point) \
    point(EXPORT_TAKEN) point(EXPORT_FILLED) point(EXPORT_PUBLISHED) point(EXPORT_ANNOUNCED) \
    point(WITHDRAW_MARKED) point(WITHDRAW_LISTENS) point(WITHDRAW_LOOKS) point(FREE_RECORD) \
    point(IMPORT_ENTERED) point(HOLD_TAKEN) point(HOLD_WRITTEN) point(IMPORT_OPEN) \
    point(IMPORT_FOUND) point(IMPORT_CLAIMED) \
    point(IMPORT_CHECKED) point(IMPORT_NARROWED) point(IMPORT_FORWARDED) point(IMPORT_DONE) \
    point(DROP_ENTERED) point(HOLD_CLEARED) point(DROP_TOLD) \
    point(LOCK_TAKEN) point(LOCK_RELEASED) point(SPAWN_CLONED) \
    point(END_MARKED) point(CLOSE_CLOSED) point(CLOSE_TOLD) point(RECLAIM_LOOKED) \
    point(RECLAIM_UNMAPPING) point(RECLAIM_UNMAPPED)
/* clang-format on */

#define KILL_POINT_NAME(name) KILL_AT_##name,
enum kill_point {
    KILL_POINTS(KILL_POINT_NAME) KILL_POINT_COUNT
};
#undef KILL_POINT_NAME

void kill_point(enum kill_point point); /* the tests' */

#ifdef AIOPIP_KILL_POINTS
#define KILL_POINT(name) kill_point(KILL_AT_##name)
#else
#define KILL_POINT(name) ((void)0)
#endif

#endif
