/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check.h: what every C test needs: an assertion that says where, a wait with a deadline, a child.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK_SKIPPED 77
#define CHECK_DEADLINE_S 20

static inline __attribute__((noreturn)) void check_failed(const char *file, int line,
                                                          const char *what)
{
    fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", file, line, what, errno, strerror(errno));
    fflush(NULL);
    _exit(1);
}

static inline void check_equal(const char *file, int line, const char *what, long actual,
                               long expected)
{
    if (actual == expected)
        return;
    fprintf(stderr, "got %ld (0x%lx), expected %ld (0x%lx)\n", actual, (unsigned long)actual,
            expected, (unsigned long)expected);
    check_failed(file, line, what);
}

static inline bool check_is_late(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - since->tv_sec > CHECK_DEADLINE_S;
}

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition))                                 \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQUAL(actual, expected) \
    check_equal(__FILE__, __LINE__, #actual " == " #expected, (long)(actual), (long)(expected))

/* Ask again and again until it holds. */
#define CHECK_SOON(condition)                                 \
    do {                                                      \
        struct timespec check_since;                          \
        clock_gettime(CLOCK_MONOTONIC, &check_since);         \
        while (!(condition)) {                                \
            if (check_is_late(&check_since))                  \
                check_failed(__FILE__, __LINE__, #condition); \
            usleep(1000);                                     \
        }                                                     \
    } while (0)

#define RUN(test)              \
    do {                       \
        printf("%s\n", #test); \
        fflush(stdout);        \
        test();                \
    } while (0)

/* Run a function in a child by fork; it fails when a CHECK in there does. */
static inline void check_in_child(void (*function)(const void *), const void *argument)
{
    int status;

    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        function(argument);
        fflush(NULL);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        _exit(1); /* it has said where */
    CHECK_EQUAL(status, 0);
}

/* xorshift64*: the same numbers in every run. */
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dUL;
}

/* How many lines of /proc/self/maps touch [start, end), and how many bytes they have. */
static inline int check_maps_in(uintptr_t start, uintptr_t end, size_t *bytes)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    char line[4352];
    int count = 0;

    CHECK(maps != NULL);
    *bytes = 0;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from < end && start < to) {
            *bytes += to - from;
            count++;
        }
    fclose(maps);
    return count;
}

static inline int check_mappings_in(uintptr_t start, uintptr_t end)
{
    size_t bytes;

    return check_maps_in(start, end, &bytes);
}

/* A new folder below TMPDIR; static storage. */
static inline const char *check_folder(void)
{
    static char path[256];
    const char *parent = getenv("TMPDIR");

    snprintf(path, sizeof path, "%s/aiopip-test-XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(path) != NULL);
    return path;
}

static inline int check_remove_one(const char *path, const struct stat *status, int type,
                                   struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Remove a folder and all that is in it. */
static inline void check_remove(const char *path)
{
    CHECK(nftw(path, check_remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

#endif
