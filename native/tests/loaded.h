/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loaded.h: what libloaded.so has in its writable segment, for test_loader.c.
 */
#ifndef LOADED_H
#define LOADED_H

#include "shared.h"

#define LOADED_ADDRESSES (4 * ARCH_PAGE / sizeof(void *))

struct loaded {
    const void *first[LOADED_ADDRESSES]; /* which ld.so relocates */
    char plain[8 * ARCH_PAGE];           /* which it does not */
    const void *second[LOADED_ADDRESSES];
};

extern struct loaded loaded_variables;
extern const struct loaded loaded_constants; /* PT_GNU_RELRO */

#endif
