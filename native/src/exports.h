/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exports.h: names and addresses that a process of the space gives to the others.
 */
#ifndef EXPORTS_H
#define EXPORTS_H

#include "shared.h"

#define EXPORT_NAME_MAX 255

/* Add a name; any thread of the owner.  0, -EBUSY taken, -ENOMEM. */
int exports_add(struct export_table *table, const char *name, size_t bytes, void *address);

/* Find a name: 1 with *address set, or 0.  Anybody, while the owner's memory is held. */
int exports_find(const struct export_table *table, const char *name, size_t bytes, void **address);

/* Count one more hold on a slot's memory in a hold table, or one less.  Owner of the table, any of
 * its threads.  False when the slot has had a later task by then.  A count that has reached its
 * limit stays. */
bool exports_hold(_Atomic uint64_t *hold, uint64_t generation);
void exports_drop(_Atomic uint64_t *hold, uint64_t generation);

#endif
