/* What the measuring programs share: the clock, samples, and memory that is in use. */
#ifndef COMMON_H
#define COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MOST 20000 /* samples, or children */

static double samples[MOST];

static inline int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Print numbers as a JSON list. */
static inline void print_list(const char *name, const double *numbers, long count, const char *end)
{
    printf("\"%s\": [", name);
    for (long i = 0; i < count; i++)
        printf("%s%.3f", i ? ", " : "", numbers[i]);
    printf("]%s", end);
}

/* Have that much memory resident until the end. */
static inline void reside(size_t bytes)
{
    char *memory;

    if (!bytes)
        return;
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    memset(memory, 1, bytes);
}

/* Numbers from the command line, of what arrays of MOST items are for. */
static inline long number_of(const char *text)
{
    long number = atol(text);

    if (number < 0 || number > MOST) {
        fprintf(stderr, "%s is not within 0 and %d\n", text, MOST);
        exit(2);
    }
    return number;
}

#endif
