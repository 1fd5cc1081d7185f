/* SPDX-License-Identifier: BSD-2-Clause
 *
 * options.h: the options of a spawn that are given seldom, in one piece of memory.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

#include "aiopip.h"

/* Whether they make sense, whatever the system says: 0 or -EINVAL. */
int options_check(const struct aiopip_spawn_request *request);

/* Whether the task gets the process's descriptor table, or a copy of it. */
bool options_want_table(const struct aiopip_spawn_options *options);

#define OPTIONS_CREDENTIALS (AIOPIP_OPTION_USER | AIOPIP_OPTION_GROUP | AIOPIP_OPTION_EXTRA_GROUPS)

/* The bytes of a copy with all that it points to; 0 for NULL. */
size_t options_bytes(const struct aiopip_spawn_options *options);

/* Copy them to a place of that size, aligned to 16; NULL for NULL. */
struct aiopip_spawn_options *options_copy(const struct aiopip_spawn_options *options, void *place);

#endif
