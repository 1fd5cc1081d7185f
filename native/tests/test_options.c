/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_options.c: options that are given seldom: task_options looks whether they have had their effect,
 * and what cannot be applied fails by its name.
 */
#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "entry.h"
#include "tasks.h"

static aiopip_client *client;

static struct aiopip_event run(const struct aiopip_spawn_options *options, const char *const *argv)
{
    struct aiopip_spawn_request request = plain_request(task_program("options"));
    struct spawned task;
    int result;

    request.options = options;
    while ((result = spawn_request(client, request, argv, NULL, &task)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return await(client, task.generation, TASKS_THE_END);
}

/* task_options finds what the words say. */
#define FINDS(options, ...)                                         \
    do {                                                            \
        const char *const words[] = {"options", __VA_ARGS__, NULL}; \
        struct aiopip_event end = run(options, words);              \
        CHECK_EQUAL(end.kind, AIOPIP_EVENT_EXITED);                 \
        CHECK_EQUAL(end.wait_status, 0);                            \
    } while (0)

static void fails(const struct aiopip_spawn_options *options, const char *name, int error)
{
    const char *const words[] = {"options", NULL};
    struct aiopip_event end = run(options, words);

    CHECK_EQUAL(end.kind, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(end.failure, AIOPIP_FAILED_OPTIONS);
    CHECK_EQUAL(end.error, error);
    CHECK(strcmp(end.detail, name) == 0);
}

static const char *text_of(uint64_t value)
{
    static char texts[4][24];
    static int next;

    next = (next + 1) % 4;
    snprintf(texts[next], sizeof texts[next], "%llu", (unsigned long long)value);
    return texts[next];
}

static void test_umask(void)
{
    mode_t before = umask(022);
    struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_UMASK, .umask = 0137};

    FINDS(NULL, "umask", "022");
    FINDS(&options, "umask", "0137");
    options.umask = 0;
    FINDS(&options, "umask", "0");
    CHECK_EQUAL(umask(before), 022);
}

static void test_nice(void)
{
    struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_NICE, .nice = 7};

    FINDS(&options, "nice", "7");
    CHECK_EQUAL(getpriority(PRIO_PROCESS, 0), 0);
    CHECK(setpriority(PRIO_PROCESS, 0, 3) == 0); /* this thread's */
    FINDS(NULL, "nice", "3");
    FINDS(&options, "nice", "7");
    CHECK(setpriority(PRIO_PROCESS, 0, 0) == 0 || geteuid() != 0);
}

static void test_limits(void)
{
    const struct aiopip_limit limits[] = {{RLIMIT_CORE, 1, 4096, 0},
                                          {RLIMIT_FSIZE, 0, 1 << 20, 2 << 20}};
    const struct aiopip_spawn_options options = {.limits = limits, .limit_count = 2};
    struct rlimit before;

    CHECK(getrlimit(RLIMIT_CORE, &before) == 0);
    FINDS(&options, "limit", text_of(RLIMIT_CORE), "4096", text_of(before.rlim_max));
    FINDS(&options, "limit", text_of(RLIMIT_FSIZE), "1048576", "2097152");
}

/* The core itself changes these two: see child.c and core.c. */
static void test_limits_that_the_core_uses(void)
{
    struct aiopip_limit limit = {RLIMIT_DATA, 0, 1UL << 60, 1UL << 61};
    const struct aiopip_spawn_options options = {.limits = &limit, .limit_count = 1};

    FINDS(&options, "limit", text_of(RLIMIT_DATA), text_of(1UL << 60), text_of(1UL << 61));
    limit = (struct aiopip_limit){RLIMIT_NOFILE, 0, 77, 99};
    FINDS(&options, "limit", text_of(RLIMIT_NOFILE), "77", "99");
    limit = (struct aiopip_limit){RLIMIT_DATA, 0, 2, 1};
    fails(&options, "rlimits[2]", EINVAL);
}

static void test_limit_that_cannot_be(void)
{
    struct aiopip_limit limit = {RLIMIT_NOFILE, 0, 20, 10};
    const struct aiopip_spawn_options options = {.limits = &limit, .limit_count = 1};

    fails(&options, "rlimits[7]", EINVAL);
    limit.resource = 4711;
    fails(&options, "rlimits[4711]", EINVAL);
}

static void test_cpu(void)
{
    uint64_t set[4] = {0};
    struct aiopip_spawn_options options = {.cpus = set, .cpu_bytes = sizeof set};
    cpu_set_t ours;
    size_t chosen = 0;

    CHECK(sched_getaffinity(0, sizeof ours, &ours) == 0);
    while (!CPU_ISSET(chosen, &ours))
        chosen++;
    fails(&options, "cpu", EINVAL);
    set[chosen / 64] = 1UL << chosen % 64;
    FINDS(&options, "cpu", text_of(chosen));
}

static void test_sigmask(void)
{
    struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_SIGMASK,
                                           .sigmask = 1UL << 63 | 2};
    sigset_t set, before;

    FINDS(&options, "sigmask", text_of(options.sigmask));
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &before) == 0);
    options.sigmask = 0;
    FINDS(&options, "sigmask", "0");
    FINDS(NULL, "sigmask", text_of(1UL << (SIGUSR1 - 1)));
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
}

static void test_name(void)
{
    struct aiopip_spawn_options options = {.name = "another"};

    FINDS(&options, "name", "another");
    options.name = "longer than a name is";
    FINDS(&options, "name", "longer than a n");
}

static void test_stack(void)
{
    struct aiopip_spawn_options options = {.stack_bytes = 200UL << 20};
    const struct aiopip_limit limit = {RLIMIT_STACK, 1, 1 << 20, 0};
    const struct aiopip_spawn_options limits = {.limits = &limit, .limit_count = 1};

    FINDS(&options, "stack", text_of(200UL << 20));
    options.stack_bytes = 512 << 10;
    FINDS(&options, "stack", text_of(512 << 10));
    FINDS(&limits, "stack", text_of(1 << 20));
    options.stack_bytes = 1UL << 50;
    fails(&options, "stack_bytes", ENOMEM);
    options.stack_bytes = SIZE_MAX;
    fails(&options, "stack_bytes", ENOMEM);
}

static uint64_t inode_of(int descriptor)
{
    struct stat status;

    CHECK(fstat(descriptor, &status) == 0);
    return status.st_ino;
}

/* Some of these files at any numbers, swaps and longer cycles among them. */
static void test_any_source_at_any_number(void)
{
    enum {
        FILES = 24
    };
    struct aiopip_descriptor list[FILES];
    struct aiopip_spawn_options options = {.descriptors = list};
    char words[FILES][32];
    const char *argv[FILES + 3] = {"options", "descriptors"};
    int files[FILES];
    uint64_t random = 42;

    for (int i = 0; i < FILES; i++)
        CHECK((files[i] = memfd_create("file", i % 2 ? MFD_CLOEXEC : 0)) >= 0);
    for (int round = 0; round < 300; round++) {
        int number = 2;
        options.descriptor_count = check_random(&random) % FILES + 1;
        for (size_t i = 0; i < options.descriptor_count; i++) {
            int source = files[check_random(&random) % FILES];
            number += 1 + (int)(check_random(&random) % (round % 3 ? 2 : 40));
            list[i] = (struct aiopip_descriptor){number, source, 0};
            snprintf(words[i], sizeof words[i], "%d=%llu", number,
                     (unsigned long long)inode_of(source));
            argv[i + 2] = words[i];
        }
        argv[options.descriptor_count + 2] = NULL;
        struct aiopip_event end = run(&options, argv);
        CHECK_EQUAL(end.kind, AIOPIP_EVENT_EXITED);
        CHECK_EQUAL(end.wait_status, 0);
    }
    for (int i = 0; i < FILES; i++)
        close(files[i]);
}

static void test_descriptors_that_are_not_open(void)
{
    struct aiopip_descriptor list[2] = {{5, 0, 0}, {70, 999, 0}};
    struct aiopip_spawn_options options = {.descriptors = list, .descriptor_count = 2};

    fails(&options, "fd_map[70]", EBADF);
    list[1].passed = 1;
    fails(&options, "pass_fds[70]", EBADF);
    list[1] = (struct aiopip_descriptor){1 << 30, 0, 0};
    fails(&options, "fd_map[1073741824]", EINVAL);
}

static const char *number_text(int number)
{
    return text_of((uint64_t)number);
}

/* All but what an exec closes, and what takes its place; from threads that come and go. */
static void test_all_descriptors_inherited(void)
{
    int plain = memfd_create("plain", 0), marked = memfd_create("marked", MFD_CLOEXEC);
    struct aiopip_descriptor list[2] = {{plain + 50, marked, 0}, {1010, marked, 0}};
    struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_INHERIT};

    CHECK(plain >= 0 && marked >= 0);
    FINDS(NULL, "open", number_text(plain), "0");
    for (int i = 0; i < 20; i++) {
        FINDS(&options, "open", number_text(plain), "1");
        FINDS(&options, "open", number_text(marked), "0");
        FINDS(&options, "open", number_text(aiopip_fd(client)), "0");
    }
    options.descriptors = list;
    options.descriptor_count = 2;
    FINDS(&options, "open", number_text(plain), "1");
    FINDS(&options, "open", number_text(marked), "0");
    FINDS(&options, "open", "1010", "1");
    list[0].number = marked;
    list[0].source = plain;
    FINDS(&options, "open", number_text(marked), "1");
    FINDS(&options, "open", number_text(plain), "1");
    close(plain);
    close(marked);
}

static void test_shared_descriptors(void)
{
    const struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_SHARE_FILES};

    CHECK(fcntl(500, F_GETFD) < 0);
    FINDS(&options, "dup", "500");
    CHECK(fcntl(500, F_GETFD) == 0);
    FINDS(&options, "open", "500", "1");
    FINDS(&options, "open", number_text(aiopip_fd(client)), "1");
    CHECK(close(500) == 0);
    FINDS(NULL, "dup", "500");
    CHECK(fcntl(500, F_GETFD) < 0);
}

static void test_shared_folder_and_umask(void)
{
    const struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_SHARE_FS};
    char before[PATH_MAX], after[PATH_MAX];
    mode_t mask = umask(022);

    CHECK(getcwd(before, sizeof before) != NULL);
    FINDS(NULL, "folder", "/", "077");
    CHECK(strcmp(getcwd(after, sizeof after), before) == 0);
    FINDS(&options, "folder", "/", "077");
    CHECK(strcmp(getcwd(after, sizeof after), "/") == 0);
    CHECK_EQUAL(umask(mask), 077);
    CHECK(chdir(before) == 0);
}

static void test_shared_things_are_not_changed_for_one(void)
{
    struct aiopip_descriptor listed = {4, 0, 0};
    struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_SHARE_FILES};
    struct aiopip_spawn_request request = plain_request(task_program("options"));
    const char *const words[] = {"options", NULL};
    struct spawned task;

    request.options = &options;
    request.stdio[1] = 1;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
    request.stdio[1] = AIOPIP_STDIO_INHERIT;
    options.descriptors = &listed;
    options.descriptor_count = 1;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
    options = (struct aiopip_spawn_options){.given = AIOPIP_OPTION_SHARE_FS | AIOPIP_OPTION_UMASK};
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
    options.given = AIOPIP_OPTION_SHARE_FS;
    request.cwd = "/";
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
}

/* The cloner's death would be theirs. */
static void test_cloner_lives_as_long_as_its_tasks(void)
{
    const struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_SHARE_FILES};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    const char *const words[] = {"actions", "pause", NULL};
    struct spawned tasks[8];

    request.options = &options;
    for (int i = 0; i < 8; i++) {
        CHECK_EQUAL(spawn_request(client, request, words, NULL, &tasks[i]), 0);
        await(client, tasks[i].generation, AIOPIP_EVENT_STARTED);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_EQUAL(aiopip_kill(client, tasks[i].pipid, tasks[i].generation, SIGTERM), 0);
        CHECK_EQUAL(finish(client, tasks[i]), SIGTERM);
    }
}

#define NOBODY 65534

static void read_as_nobody(const void *unused)
{
    (void)unused;
    bool reads = setuid(NOBODY) == 0 && access(task_program("options"), X_OK) == 0 &&
                 access(getenv("AIOPIP_TASK_LIBRARY"), R_OK) == 0;
    _exit(reads ? 0 : 2); /* the leak checker cannot run in a copy of a process with threads */
}

/* Whether user 65534 may read what was built. */
static bool nobody_reads(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        read_as_nobody(NULL);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status == 0;
}

static void test_user_and_groups(void)
{
    const uint32_t groups[] = {77};
    struct aiopip_spawn_options options = {
        .given = AIOPIP_OPTION_USER | AIOPIP_OPTION_GROUP | AIOPIP_OPTION_EXTRA_GROUPS,
        .user = NOBODY,
        .group = 4711,
        .extra_groups = groups,
        .extra_group_count = 1,
        .nice = -1, /* not allowed to that user any more */
    };

    if (geteuid() != 0) {
        fails(&options, "extra_groups", EPERM);
        options.given = AIOPIP_OPTION_USER;
        fails(&options, "user", EPERM);
        return;
    }
    if (!nobody_reads()) {
        printf("skipped: user 65534 may not read what was built\n");
        return;
    }
    FINDS(&options, "user", "65534", "4711", "77");
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
    options.extra_group_count = 0;
    options.given |= AIOPIP_OPTION_NICE;
    FINDS(&options, "user", "65534", "4711", "-");
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
    CHECK_EQUAL(geteuid(), 0);
}

static void copy_file(const char *from, const char *to)
{
    char command[2 * PATH_MAX + 16];

    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    CHECK_EQUAL(system(command), 0);
}

static void test_user_who_may_not_execute_the_program(void)
{
    const struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_USER, .user = NOBODY};
    const char *const words[] = {"options", NULL};
    char path[PATH_MAX];
    struct spawned task;

    if (geteuid() != 0)
        return;
    const char *folder = check_folder(); /* ours alone */
    snprintf(path, sizeof path, "%s/program", folder);
    copy_file(task_program("options"), path);
    struct aiopip_spawn_request request = plain_request(path);
    request.options = &options;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), 0);
    struct aiopip_event end = await(client, task.generation, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(end.failure, AIOPIP_FAILED_PERMISSION);
    CHECK_EQUAL(end.error, EACCES);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
    /* It would make that user the superuser, and us nobody else. */
    CHECK(chmod(path, 04755) == 0 && chmod(folder, 0755) == 0);
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), 0);
    end = await(client, task.generation, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(end.failure, AIOPIP_FAILED_PRIVILEGED);
    request.options = NULL;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), 0);
    CHECK_EQUAL(finish(client, task), 2 << 8);
    check_remove(folder);
}

/* Between the change of credentials and what puts things back. */
static void test_killed_at_any_moment_the_space_may_be_dumped(void)
{
    const struct aiopip_spawn_options options = {.given = AIOPIP_OPTION_USER, .user = NOBODY};
    struct aiopip_spawn_request request = plain_request(task_program("options"));
    const char *const words[] = {"options", NULL};
    struct spawned task;
    uint64_t random = 3;

    request.options = &options;
    for (int i = 0; i < 200; i++) {
        CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), 0);
        usleep((useconds_t)(check_random(&random) % 150));
        aiopip_cancel(client, task.pipid, task.generation);
        await(client, task.generation, TASKS_THE_END);
        CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
    }
}

static void enters(const char *entry, const char *arg, size_t arg_bytes, int status)
{
    const struct aiopip_spawn_options options = {
        .entry = entry, .arg = arg, .arg_bytes = arg_bytes};
    const char *const words[] = {"options", "ignored", NULL};
    struct aiopip_event end = run(&options, words);

    CHECK_EQUAL(end.kind, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(end.wait_status, status << 8);
}

static void test_entry_in_place_of_main(void)
{
    static char zeros[300001];

    enters("enter_static", "42", 3, 42);
    enters("enter_address", (const char *)0x1234, 0, 5);
    enters("enter_address", NULL, 0, 6);
    enters("enter_and_exit", "", 1, 7);
    memset(zeros, '0', sizeof zeros - 1);
    zeros[sizeof zeros - 2] = '7';
    enters("enter_static", zeros, sizeof zeros, 7);
}

static void does_not_enter(const char *program, const char *entry, const char *detail)
{
    const struct aiopip_spawn_options options = {.entry = entry};
    struct aiopip_spawn_request request = plain_request(program);
    const char *const words[] = {"options", NULL};
    struct spawned task;

    request.options = &options;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), 0);
    struct aiopip_event end = await(client, task.generation, TASKS_THE_END);
    CHECK_EQUAL(end.kind, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(end.failure, AIOPIP_FAILED_ENTRY);
    CHECK_EQUAL(end.error, ENOEXEC);
    CHECK(strcmp(end.detail, detail) == 0);
}

static void test_entry_that_is_not_there(void)
{
    const char *folder = check_folder();
    char path[PATH_MAX];

    does_not_enter(task_program("options"), "no_such", "missing no_such");
    does_not_enter(task_program("options"), "", "missing ");
    does_not_enter(task_program("options"), "constructed", "missing constructed"); /* data */
    does_not_enter(task_program("options"), "fstat", "missing fstat");             /* libc's */
    snprintf(path, sizeof path, "%s/script", folder);
    FILE *script = fopen(path, "we");
    CHECK(script && fputs("#!/bin/sh\n", script) >= 0 && fclose(script) == 0);
    CHECK(chmod(path, 0755) == 0);
    does_not_enter(path, "main", "script main");
    check_remove(folder);
}

/* Any bytes behind the ELF header's: an answer, and no crash. */
static void test_entry_in_a_broken_file(void)
{
    static struct program program;
    struct program_error error;
    const char *folder = check_folder();
    uint64_t random = 11;
    uintptr_t address;
    Elf64_Ehdr header;

    snprintf(program.path, sizeof program.path, "%s/program", folder);
    copy_file(task_program("options"), program.path);
    int file = open(program.path, O_RDWR | O_CLOEXEC);
    CHECK(pread(file, &header, sizeof header, 0) == sizeof header);
    size_t bytes = header.e_shnum * sizeof(Elf64_Shdr);
    unsigned char *sections = malloc(bytes), *broken = malloc(bytes);
    CHECK(sections && broken && pread(file, sections, bytes, (off_t)header.e_shoff) > 0);
    CHECK_EQUAL(entry_find(&program, "enter_static", &address, &error), 0);
    for (int i = 0; i < 2000; i++) {
        memcpy(broken, sections, bytes);
        for (int j = 0; j <= i % 8; j++)
            broken[check_random(&random) % bytes] = (unsigned char)check_random(&random);
        CHECK(pwrite(file, broken, bytes, (off_t)header.e_shoff) == (ssize_t)bytes);
        int result = entry_find(&program, "enter_static", &address, &error);
        CHECK(result == 0 || result == -ENOEXEC);
    }
    CHECK(ftruncate(file, (off_t)header.e_shoff + 100) == 0);
    CHECK_EQUAL(entry_find(&program, "enter_static", &address, &error), -ENOEXEC);
    free(sections);
    free(broken);
    close(file);
    check_remove(folder);
}

static void test_what_makes_no_sense_is_refused(void)
{
    struct aiopip_descriptor list[2] = {{4, 0, 0}, {4, 0, 0}};
    uint64_t set[256] = {1};
    struct aiopip_spawn_options options = {.cpus = set, .cpu_bytes = sizeof set};
    struct aiopip_spawn_request request = plain_request(task_program("options"));
    const char *const words[] = {"options", NULL};
    struct spawned task;

    request.options = &options;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
    options.cpu_bytes = 4;
    CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), -EINVAL);
    options = (struct aiopip_spawn_options){.descriptors = list, .descriptor_count = 2};
    for (int i = 0; i < 3; i++) {
        list[0].number = 4 - i;
        CHECK_EQUAL(spawn_request(client, request, words, NULL, &task), i == 1 ? 0 : -EINVAL);
    }
    finish(client, task);
}

int main(void)
{
    client = open_client(1000);
    RUN(test_umask);
    RUN(test_nice);
    RUN(test_limits);
    RUN(test_limits_that_the_core_uses);
    RUN(test_limit_that_cannot_be);
    RUN(test_cpu);
    RUN(test_sigmask);
    RUN(test_name);
    RUN(test_stack);
    RUN(test_any_source_at_any_number);
    RUN(test_descriptors_that_are_not_open);
    RUN(test_all_descriptors_inherited);
    RUN(test_shared_descriptors);
    RUN(test_shared_folder_and_umask);
    RUN(test_shared_things_are_not_changed_for_one);
    RUN(test_cloner_lives_as_long_as_its_tasks);
    RUN(test_user_and_groups);
    RUN(test_user_who_may_not_execute_the_program);
    RUN(test_killed_at_any_moment_the_space_may_be_dumped);
    RUN(test_entry_in_place_of_main);
    RUN(test_entry_that_is_not_there);
    RUN(test_entry_in_a_broken_file);
    RUN(test_what_makes_no_sense_is_refused);
    check_clean(client);
    close_client(client);
    return 0;
}
