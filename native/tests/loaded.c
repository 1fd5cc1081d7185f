/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loaded.c: see loaded.h.
 */
#include "loaded.h"

#define EXPORTED __attribute__((visibility("default"))) _Alignas(ARCH_PAGE)
#define CONTENT                                                             \
    {                                                                       \
        .first = {[0 ... LOADED_ADDRESSES - 1] = &local}, .plain = "plain", \
        .second = {[0 ... LOADED_ADDRESSES - 1] = &local}                   \
    }

static int local;

EXPORTED struct loaded loaded_variables = CONTENT;
EXPORTED const struct loaded loaded_constants = CONTENT;
