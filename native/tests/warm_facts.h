/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warm_facts.h: what tests/task_warm.c tells of itself, at an address of the test's.
 */
#ifndef WARM_FACTS_H
#define WARM_FACTS_H

#include <stdint.h>

struct warm_facts {
    /* The same in each run. */
    uint64_t
        variables; /* 1: they were as the program's file has them, and its constructor has run once */
    uint64_t owner;     /* 1: a mutex that checks its owner has this thread for it */
    uint64_t processor; /* 1: sched_getcpu() is right */
    uint64_t stack;     /* 1: pthread_getattr_np() has it right */
    uint64_t threads;   /* 1: a thread ran */
    uint64_t libraries; /* 1: dlopen() works, and what it finds */
    uint64_t auxiliary; /* a sum of what getauxval() says */
    uint64_t limits;    /* a sum of what getrlimit() says */
    uint64_t at_exit;   /* 1: what atexit() was given has run */
    /* For the test to compare. */
    uint64_t resumed;
    uint64_t arguments, environment; /* sums of all strings */
    uint64_t random, canary, guard;
};

static inline uint64_t warm_sum(uint64_t sum, const char *text)
{
    for (; *text; text++)
        sum = sum * 31 + (uint8_t)*text;
    return sum * 31;
}

#endif
