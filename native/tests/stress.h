/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stress.h: one party of test_stress.c, a task or the root, that exports, imports, forwards, narrows,
 * releases and withdraws at random.
 *
 * Each page of an export is filled by a number of its own, which no other has; a page that was told to
 * be its owner's alone again is filled anew at once, so that whoever still has it finds it broken.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "aiopip.h"

#define STRESS_SLOTS 16
#define STRESS_PAGES 8
#define STRESS_HOLDS 16
#define STRESS_PAGE 4096

/* In the root's memory: what all parties see. */
struct stress_board {
    _Atomic uint64_t numbers; /* that were given to pages */
    _Atomic uint64_t steps, imports, forwards;
    _Atomic uint32_t stop;
    bool keeps; /* some exports outlive their tasks */
};

enum stress_state {
    STRESS_FREE,
    STRESS_PUBLISHED,
    STRESS_WITHDRAWN, /* and held */
};

struct stress_export {
    enum stress_state state;
    uint64_t id;
    uint64_t *page;
    int hold; /* that is forwarded, or -1: the page is our own */
};

struct stress_hold {
    aiopip_hold *hold; /* NULL: none */
    const uint64_t *page;
    uint64_t number;
    size_t words;
    int forwarded; /* by how many exports */
};

struct stress_party {
    aiopip_peer *peer;
    struct stress_board *board;
    uint64_t random;
    bool only_imports; /* a second thread: it is the first that is told of releases */
    struct stress_export exports[2 * STRESS_PAGES]; /* of own pages, then forwarded ones */
    struct stress_hold holds[STRESS_HOLDS];
};

void stress_begin(struct stress_party *party, aiopip_peer *peer, struct stress_board *board,
                  uint64_t seed, bool only_imports);

/* One step; 0, or the line in stress.c that found something wrong. */
int stress_step(struct stress_party *party);

/* Give up all that can be.  True when nothing is held of us any more. */
bool stress_end(struct stress_party *party);

#endif
