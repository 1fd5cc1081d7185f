/* posix_spawn and waitpid in a loop: what a C program that waits for nothing else can reach.
 *
 *     children spawn WARM COUNT RESIDENT_BYTES PROGRAM [ARGS]     each started and awaited
 *     children throughput WARM COUNT IN_FLIGHT PROGRAM [ARGS]     so many at once
 *     children exit WARM COUNT DELAY_US STAMP                     from its stamp on
 *     children sleeping 0 COUNT 0 PROGRAM [ARGS]                  all alive, then killed
 *     children alive WARM COUNT ALIVE SLEEPER PROGRAM [ARGS]      while others sleep
 */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

extern char **environ;

static pid_t pids[MOST];

static pid_t start(char **line)
{
    pid_t pid;
    int error = posix_spawn(&pid, line[0], NULL, NULL, line, environ);

    if (error) {
        fprintf(stderr, "children: %s: %s\n", line[0], strerror(error));
        exit(1);
    }
    return pid;
}

static void finish(pid_t pid)
{
    if (waitpid(pid, NULL, 0) < 0)
        fail("waitpid");
}

static void run_each(long warm, long count, char **line)
{
    for (long i = -warm; i < count; i++) {
        int64_t from = now_ns();
        finish(start(line));
        if (i >= 0)
            samples[i] = (double)(now_ns() - from) / 1e3;
    }
    printf("{");
    print_list("us", samples, count, "}\n");
}

static void run_at_once(long count, long in_flight, char **line)
{
    long started = 0;

    for (long ended = 0; ended < count; ended++) {
        while (started < count && started - ended < in_flight) {
            start(line);
            started++;
        }
        finish(-1);
    }
}

static void throughput(long warm, long count, long in_flight, char **line)
{
    run_at_once(warm, in_flight, line);
    int64_t from = now_ns();
    run_at_once(count, in_flight, line);
    double rate = (double)count * 1e9 / (double)(now_ns() - from);
    printf("{");
    print_list("per_s", &rate, 1, "}\n");
}

static void exits(long warm, long count, char *delay_us, char *program)
{
    int file = memfd_create("stamp", 0);
    char path[64];

    if (file < 0 || ftruncate(file, sysconf(_SC_PAGESIZE)))
        fail("memfd_create");
    volatile int64_t *stamp = mmap(NULL, sizeof *stamp, PROT_READ, MAP_SHARED, file, 0);
    if (stamp == MAP_FAILED)
        fail("mmap");
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), file);
    for (long i = -warm; i < count; i++) {
        finish(start((char *[]){program, path, delay_us, NULL}));
        if (i >= 0)
            samples[i] = (double)(now_ns() - *stamp) / 1e3;
    }
    printf("{");
    print_list("us", samples, count, "}\n");
}

static void start_all(long count, char **line)
{
    for (long i = 0; i < count; i++)
        pids[i] = start(line);
}

static void kill_all(long count)
{
    for (long i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    for (long i = 0; i < count; i++)
        finish(pids[i]);
}

static void sleeping(long count, char **line)
{
    int64_t from = now_ns();
    start_all(count, line);
    double spawn_ms = (double)(now_ns() - from) / 1e6;

    sleep(1); /* until all of them have come to sleep */
    from = now_ns();
    kill_all(count);
    double reap_ms = (double)(now_ns() - from) / 1e6;
    printf("{");
    print_list("spawn_ms", &spawn_ms, 1, ", ");
    print_list("reap_ms", &reap_ms, 1, "}\n");
}

static void alive(long warm, long count, long others, char *sleeper, char **line)
{
    start_all(others, (char *[]){sleeper, NULL});
    run_each(warm, count, line);
    kill_all(others);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    const char *what = argv[1];
    long warm = number_of(argv[2]), count = number_of(argv[3]), number = atol(argv[4]);
    char **line = argv + 5;

    if (strcmp(what, "spawn") == 0) {
        reside((size_t)number);
        run_each(warm, count, line);
    } else if (strcmp(what, "throughput") == 0) {
        throughput(warm, count, number, line);
    } else if (strcmp(what, "exit") == 0) {
        exits(warm, count, argv[4], line[0]);
    } else if (strcmp(what, "sleeping") == 0) {
        sleeping(count, line);
    } else if (strcmp(what, "alive") == 0 && argc > 6) {
        alive(warm, count, number, line[0], line + 1);
    } else {
        return 2;
    }
}
