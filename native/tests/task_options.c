/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_options.c: looks whether an option has had its effect: task_options WHAT VALUE...
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "check.h"

static unsigned long number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 0);

    CHECK(*text && !*end);
    return value;
}

static void check_umask(char **values)
{
    CHECK_EQUAL(umask(0), number(values[0]));
}

static void check_nice(char **values)
{
    CHECK_EQUAL(getpriority(PRIO_PROCESS, 0), atoi(values[0]));
}

/* RESOURCE SOFT HARD */
static void check_limit(char **values)
{
    struct rlimit limit;

    CHECK(getrlimit((__rlimit_resource_t)number(values[0]), &limit) == 0);
    CHECK_EQUAL(limit.rlim_cur, number(values[1]));
    CHECK_EQUAL(limit.rlim_max, number(values[2]));
}

static void check_cpu(char **values)
{
    cpu_set_t set;

    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK_EQUAL(CPU_COUNT(&set), 1);
    CHECK(CPU_ISSET(number(values[0]), &set));
}

/* The mask's first word. */
static void check_sigmask(char **values)
{
    sigset_t set;

    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    CHECK_EQUAL(*(uint64_t *)&set, number(values[0]));
}

static void check_name(char **values)
{
    char name[16];

    CHECK(prctl(PR_GET_NAME, name) == 0);
    CHECK(strcmp(name, values[0]) == 0);
}

static void check_stack(char **values)
{
    size_t wanted = number(values[0]), bytes;
    pthread_attr_t attributes;
    struct rlimit limit;
    void *start;

    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    CHECK_EQUAL(limit.rlim_cur, wanted);
    CHECK_EQUAL(pthread_getattr_np(pthread_self(), &attributes), 0);
    CHECK_EQUAL(pthread_attr_getstack(&attributes, &start, &bytes), 0);
    pthread_attr_destroy(&attributes);
    CHECK(bytes <= wanted && bytes > wanted - (128UL << 10));
    *(volatile char *)start = 1;
}

/* NUMBER=INODE of each descriptor from 3 on; none else is open. */
static void check_descriptors(char **values)
{
    char *expected[1100] = {NULL};
    struct stat status;

    for (; *values; values++)
        expected[atoi(*values)] = strchr(*values, '=') + 1;
    for (int i = 3; i < 1100; i++) {
        bool is_open = fstat(i, &status) == 0;
        CHECK_EQUAL(is_open, expected[i] != NULL);
        if (!is_open)
            continue;
        CHECK_EQUAL(status.st_ino, number(expected[i]));
        CHECK_EQUAL(fcntl(i, F_GETFD), 0);
    }
}

/* NUMBER 0: it is not open; 1: it is, with or without FD_CLOEXEC. */
static void check_open(char **values)
{
    CHECK_EQUAL(fcntl(atoi(values[0]), F_GETFD) >= 0, number(values[1]));
}

/* Whoever shares these with us sees it. */
static void open_at(char **values)
{
    CHECK_EQUAL(dup2(0, atoi(values[0])), atoi(values[0]));
}

static void change_folder(char **values)
{
    CHECK(chdir(values[0]) == 0);
    umask((mode_t)number(values[1]));
}

/* UID GID GROUP, "-" for no group; the kernel's and what libc was told. */
static void check_user(char **values)
{
    uid_t real, effective, saved;
    gid_t gid, egid, sgid, groups[8];

    CHECK(getresuid(&real, &effective, &saved) == 0 && getresgid(&gid, &egid, &sgid) == 0);
    CHECK(real == number(values[0]) && effective == real && saved == real);
    CHECK(gid == number(values[1]) && egid == gid && sgid == gid);
    CHECK(getauxval(AT_UID) == real && getauxval(AT_EUID) == real);
    CHECK(getauxval(AT_GID) == gid && getauxval(AT_EGID) == gid);
    int count = getgroups(8, groups);
    CHECK_EQUAL(count, values[2][0] != '-');
    CHECK(count == 0 || groups[0] == number(values[2]));
    int death = 0;
    CHECK(prctl(PR_GET_PDEATHSIG, &death) == 0);
    CHECK_EQUAL(death, SIGKILL);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
}

static const struct {
    const char *name;
    void (*check)(char **values);
} checks[] = {
    {"umask", check_umask},     {"nice", check_nice},
    {"limit", check_limit},     {"cpu", check_cpu},
    {"sigmask", check_sigmask}, {"name", check_name},
    {"stack", check_stack},     {"descriptors", check_descriptors},
    {"open", check_open},       {"user", check_user},
    {"dup", open_at},           {"folder", change_folder},
};

/* ---- Entries: what runs in place of main ------------------------------------------------------ */

static int constructed;

static __attribute__((constructor)) void construct(void)
{
    constructed = 1;
}

static void leave_a_trace(void)
{
    _exit(7);
}

/* arg: what it returns, as text. */
static __attribute__((used)) int enter_static(const char *arg)
{
    CHECK_EQUAL(constructed, 1);
    return (int)number(arg);
}

int enter_address(uintptr_t arg);
int enter_and_exit(const char *arg);

int enter_address(uintptr_t arg)
{
    return arg == 0x1234 ? 5 : arg == 0 ? 6 : 1;
}

int enter_and_exit(const char *arg)
{
    CHECK_EQUAL(atexit(leave_a_trace), 0);
    return *arg;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof checks / sizeof *checks; i++)
        if (strcmp(checks[i].name, argv[1]) == 0) {
            checks[i].check(argv + 2);
            return 0;
        }
    return 2;
}
