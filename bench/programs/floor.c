/* clone(CLONE_VM) of a child that exits at once: what no process in a shared space can be below.
 *
 *     floor spawn WARM COUNT RESIDENT_BYTES     clone, exit, wait
 *     floor walk WARM COUNT MAPPINGS            the same in a space of that many mappings: each exit
 *                                               walks them all (BSD process accounting)
 *     floor reap 0 COUNT MAPPINGS               that many children sleep, then all are killed
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define STACK_BYTES 4096

static int leave(void *unused)
{
    (void)unused;
    syscall(SYS_exit, 0);
    return 0;
}

static int stay(void *unused)
{
    (void)unused;
    syscall(SYS_alarm, 300); /* nobody may come to kill it */
    syscall(SYS_pause);
    return 0;
}

static char *stacks(long count)
{
    char *memory = mmap(NULL, (size_t)count * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail("mmap");
    return memory;
}

static pid_t start(int (*body)(void *), char *stack)
{
    pid_t pid = clone(body, stack + STACK_BYTES, CLONE_VM, NULL);

    if (pid < 0)
        fail("clone");
    return pid;
}

static void finish(pid_t pid)
{
    if (waitpid(pid, NULL, __WALL) < 0)
        fail("waitpid");
}

/* Neighbours of different protection are mappings of their own. */
static void map_many(long count)
{
    long page = sysconf(_SC_PAGESIZE);
    char *memory =
        mmap(NULL, (size_t)(count * page) + 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail("mmap");
    for (long i = 0; i < count; i += 2)
        if (mprotect(memory + i * page, (size_t)page, PROT_READ | PROT_WRITE))
            fail("mprotect");
}

static void run_each(long warm, long count)
{
    char *stack = stacks(1);

    for (long i = -warm; i < count; i++) {
        int64_t from = now_ns();
        finish(start(leave, stack));
        if (i >= 0)
            samples[i] = (double)(now_ns() - from) / 1e3;
    }
    printf("{");
    print_list("us", samples, count, "}\n");
}

static pid_t pids[MOST];

static void reap(long count)
{
    char *memory = stacks(count);
    for (long i = 0; i < count; i++)
        pids[i] = start(stay, memory + i * STACK_BYTES);
    usleep(100000); /* until all of them have come to sleep */
    int64_t from = now_ns();
    for (long i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    for (long i = 0; i < count; i++)
        finish(pids[i]);
    double reap_ms = (double)(now_ns() - from) / 1e6;
    printf("{");
    print_list("reap_ms", &reap_ms, 1, "}\n");
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    long warm = number_of(argv[2]), count = number_of(argv[3]), number = atol(argv[4]);

    if (strcmp(argv[1], "spawn") == 0) {
        reside((size_t)number);
        run_each(warm, count);
    } else if (strcmp(argv[1], "walk") == 0) {
        map_many(number);
        run_each(warm, count);
    } else if (strcmp(argv[1], "reap") == 0) {
        map_many(number);
        reap(count);
    } else {
        return 2;
    }
}
