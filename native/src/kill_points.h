/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kill_points.h: the steps of sharing memory, of locks, and of a pool's workers, at which the tests
 * kill somebody.
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
/* calls_worker.c's, all of which workers come to, and some their owner, too. */
#define KILL_CALL_POINTS(point) \
    point(TAKE_ENTERED) point(TAKE_LOOKED) point(TAKE_CLAIMED) point(TAKE_PASSED) \
    point(TAKE_STARTED) point(TAKE_LEAVES) point(RELEASED_TAKEN) point(RELEASED_TOLD) \
    point(SPIN_BEGUN) point(SPIN_FOUND) point(SPIN_OVER) \
    point(SLEEP_SAID) point(SLEEP_LOOKED) point(SLEEP_OVER) \
    point(WAKE_SAID) point(WAKE_TAKEN) point(WAKE_ADDED) point(WAKE_RUNG) point(WAKE_OVER) \
    point(FINISH_FILLED) point(FINISH_DONE) point(TELL_LISTED) point(TELL_WRITTEN)
/* clang-format on */

#define KILL_POINT_NAME(name) KILL_AT_##name,
enum kill_point {
    KILL_POINTS(KILL_POINT_NAME) KILL_POINT_COUNT,
    KILL_CALL_POINTS(KILL_POINT_NAME) KILL_POINTS_END
};
#undef KILL_POINT_NAME

void kill_point(enum kill_point point); /* the tests' */

#ifdef AIOPIP_KILL_POINTS
#define KILL_POINT(name) kill_point(KILL_AT_##name)
#else
#define KILL_POINT(name) ((void)0)
#endif

#endif
