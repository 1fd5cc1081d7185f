/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm.h: a window that keeps its program loaded for the next task that runs the same.
 *
 * Nearly all of a small program's start is ld.so's work: mapping, relocating, protecting, and the page
 * faults of that.  It comes out the same each time, at the same addresses.  So the state in which ld.so
 * hands over to the program is written down, by the task itself, when a program is started that was
 * started before: what is mapped, and the contents of all pages that may be written to.  When such a
 * task has ended, its window is not unmapped but put back into that state (warm.c), and the next task
 * there begins behind ld.so.
 *
 * Nothing is taken over from a task but what the kernel says is as it was: mappings and their rights,
 * and that no page was written to that must not be.  A task that has changed any of that, that has
 * shared memory, or of which somebody holds some, has its window unmapped as ever.
 *
 *   spawner   warm_prepare, before the clone
 *   task      captures: task/warm.c; publishes `complete`
 *   reaper    warm_keep, behind the end
 *   spawner   warm_fits, warm_build, or warm_drop; for the next task
 */
#ifndef WARM_H
#define WARM_H

#include "core.h"
#include "stack.h"
#include "warm_state.h"

/* Under the lock: the lowest free slot whose window may have a program loaded, by the name that it was
 * started by; or -1.  And whether a slot's has any. */
int32_t warm_choose(const struct core *core, const char *name);
bool warm_is(struct core *core, int32_t pipid);

/* A task has ended.  Under the lock. */
void warm_note_end(struct core *core, const struct task *task);

/* The window of one that has written its state down was kept, or could not be. */
void warm_note_kept(struct core *core, const struct task *task, bool kept);

/* How many free slots' windows keep one.  Under the lock. */
uint32_t warm_count(const struct core *core);

/* What a slot's window keeps, or its task writes down; or NULL. */
struct warm *warm_of(struct core *core, int32_t pipid);

/* Have a task start in the state that its window has kept, if that is the one it would come to.  False:
 * it must be started as ever.  Spawner only. */
bool warm_build(struct core *core, int32_t pipid, const struct stack_content *content,
                size_t stack_bytes, struct task_block **block, uintptr_t *stack_start);

/* Have a task that starts as ever write its state down, if that may be of use.  Spawner only. */
void warm_prepare(struct core *core, int32_t pipid, const struct stack_content *content,
                  size_t stack_bytes, struct task_block *block);
uint64_t warm_hash(const char *name);

/* Unmap what a slot's window has kept, and forget it; all free slots' windows.  Spawner only. */
void warm_drop(struct core *core, int32_t pipid);
void warm_drop_idle(struct core *core);

/* How long the reaper may sleep before it comes back here; -1: for ever.  When nothing was spawned for a
 * while, the spawner is told to drop all. */
int warm_patience_ms(struct core *core);

/* warm_keep.c: put the window of a task that has ended back into the state that it has written down.
 * False: it is to be unmapped.  Reaper only, and nobody may run on the memory, or hold any. */
bool warm_keep(struct core *core, int32_t pipid);

/* Free all states, when the core is: of windows that stay, since somebody runs there. */
void warm_free(struct core *core);

/* A window is unmapped: forget its state. */
void warm_forget(struct core *core, int32_t pipid);

#endif
