/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_preload.c: what a program finds in a task, seen from inside.
 *
 *   task_preload FILES DATA WORD     FILES, DATA: the soft limits that it shall find
 *   task_preload child FILES DATA    started by the task as an ordinary process
 */
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "check.h"
#include "shared.h"

#define PAGE 4096UL
#define READ_WRITE (PROT_READ | PROT_WRITE)
#define PLAIN (MAP_PRIVATE | MAP_ANONYMOUS)

static char **arguments;

/* ---- The break -------------------------------------------------------------------------------- */

static void check_bytes(const char *from, size_t bytes, char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (from[i] != value) {
            CHECK_EQUAL(from[i], value);
            return;
        }
}

static void test_break_is_the_tasks_own(void)
{
    char *kernels = (char *)sys1(SYS_brk, 0);
    char *start = sbrk(0);
    const size_t bytes = 5 * 1048576 + 100;

    CHECK(start != (void *)-1 && start != kernels);
    CHECK(sbrk((intptr_t)bytes) == start && sbrk(0) == start + bytes);
    check_bytes(start, bytes, 0);
    memset(start, 'x', bytes);
    CHECK(sbrk(-(intptr_t)(bytes - 100)) == start + bytes && sbrk(0) == start + 100);
    check_bytes(start, 100, 'x');
    CHECK_EQUAL(brk(start + bytes), 0);
    check_bytes(start, PAGE, 'x');
    check_bytes(start + PAGE, bytes - PAGE, 0); /* whole pages are given back */
    CHECK_EQUAL(syscall(SYS_brk, 0), (long)(start + bytes));
    CHECK_EQUAL(syscall(SYS_brk, start + PAGE), (long)(start + PAGE));
    CHECK_EQUAL(brk(start), 0);
    CHECK(sbrk(0) == start);
    CHECK((char *)sys1(SYS_brk, 0) == kernels);
}

static void check_out_of_memory(intptr_t by)
{
    void *before = sbrk(0);

    errno = 0;
    CHECK(sbrk(by) == (void *)-1 && errno == ENOMEM);
    errno = 0;
    CHECK(brk((char *)before + by) == -1 && errno == ENOMEM);
    CHECK_EQUAL(syscall(SYS_brk, (char *)before + by), (long)before);
    CHECK(sbrk(0) == before);
}

static void test_break_has_its_ends(void)
{
    char *start = sbrk(0), *wall = start + 2 * 1048576;

    check_out_of_memory(-(1L << 40));
    check_out_of_memory(INTPTR_MAX / 2);
    check_out_of_memory(1L << 40);
    CHECK(mmap(wall, PAGE, READ_WRITE, PLAIN | MAP_FIXED_NOREPLACE, -1, 0) == wall);
    check_out_of_memory(2 * 1048576 + 1);
    CHECK(sbrk(2 * 1048576) == start);
    CHECK_EQUAL(brk(start), 0);
    CHECK_EQUAL(munmap(wall, PAGE), 0);
}

static _Atomic bool over;

static void *look_at_break(void *failures)
{
    while (!atomic_load(&over))
        *(size_t *)failures += sbrk(0) == (void *)-1;
    return NULL;
}

/* malloc moves it, and asks where it is when it has given back what it trimmed. */
static void test_break_is_known_while_it_moves(void)
{
    const size_t large = 3 << 20;
    size_t failures = 0;
    pthread_t thread;

    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
    CHECK_EQUAL(pthread_create(&thread, NULL, look_at_break, &failures), 0);
    for (int i = 0; i < 5000; i++) {
        char *volatile block = malloc(large);
        CHECK(block != NULL);
        block[0] = block[large - 1] = 1;
        free(block);
    }
    atomic_store(&over, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(failures, 0);
}

static void test_malloc_works(void)
{
    char *parts[200];

    for (size_t i = 0; i < 200; i++) {
        parts[i] = malloc(1 + i * i * 16);
        CHECK(parts[i] != NULL);
        memset(parts[i], (int)i, 1 + i * i * 16);
    }
    for (size_t i = 0; i < 200; i++) {
        CHECK_EQUAL(parts[i][i * i * 16], (char)i);
        free(parts[i]);
    }
    errno = 0;
    char *volatile huge = malloc(PTRDIFF_MAX / 2);
    CHECK(huge == NULL && errno == ENOMEM);
}

/* ---- Mapping calls ---------------------------------------------------------------------------- */

static void test_mapping_calls_work(void)
{
    char *at = mmap(NULL, 3 * PAGE, READ_WRITE, PLAIN, -1, 0);

    CHECK(at != MAP_FAILED);
    strcpy(at, "content");
    at = mremap(at, 3 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    CHECK(at != MAP_FAILED && strcmp(at, "content") == 0);
    CHECK(mmap(at + PAGE, PAGE, PROT_READ, PLAIN | MAP_FIXED, -1, 0) == at + PAGE);
    CHECK(munmap(at, 100 * PAGE) == 0);
    CHECK(msync(at, PAGE, MS_ASYNC) == -1 && errno == ENOMEM);
}

static void test_mapping_calls_set_errno(void)
{
    char *at = mmap(NULL, PAGE, READ_WRITE, PLAIN, -1, 0);

    CHECK(at != MAP_FAILED);
    errno = 0;
    CHECK(mmap(NULL, 0, READ_WRITE, PLAIN, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
    CHECK(mmap(NULL, SIZE_MAX, READ_WRITE, PLAIN, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(mmap(at, PAGE, READ_WRITE, PLAIN | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED &&
          errno == EEXIST);
    CHECK(munmap(at + 1, PAGE) == -1 && errno == EINVAL);
    CHECK(munmap(at, 0) == -1 && errno == EINVAL);
    CHECK(mremap(at, PAGE, 0, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(munmap(at, PAGE) == 0);
    CHECK(mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
}

/* Far from where the kernel and the core put things. */
static char *far_away(uintptr_t page)
{
    return (char *)(0x210000000000UL + page * PAGE);
}

static void test_addresses_of_the_programs_choice_work(void)
{
    char *at = far_away(0);

    CHECK(mmap(at, 4 * PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0) == at);
    CHECK(munmap(at + PAGE, PAGE) == 0);
    *at = at[3 * PAGE] = 1; /* stays until the end */
    CHECK(mmap(far_away(8), PAGE, READ_WRITE, PLAIN | MAP_FIXED_NOREPLACE, -1, 0) == far_away(8));
}

static void test_shared_memory_segments_are_attached(void)
{
    int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);

    CHECK(id >= 0);
    char *at = shmat(id, NULL, 0);
    CHECK(at != (char *)-1);
    char *again = shmat(id, NULL, SHM_RDONLY);
    CHECK(again != (char *)-1 && again != at);
    char *chosen = shmat(id, far_away(100), 0);
    CHECK(chosen == far_away(100));
    at[3 * PAGE - 1] = 42;
    CHECK(again[3 * PAGE - 1] == 42 && chosen[3 * PAGE - 1] == 42);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    CHECK(shmdt(again) == 0); /* the others stay until the end */
    errno = 0;
    CHECK(shmdt(again) == -1 && errno == EINVAL);
    CHECK(shmat(-1, NULL, 0) == (void *)-1 && errno == EINVAL);
    CHECK(shmat(-1, far_away(200), 0) == (void *)-1 && errno == EINVAL);
}

static void test_system_calls_by_number_are_led_the_same_way(void)
{
    errno = 0;
    CHECK(syscall(SYS_mmap, NULL, 0, READ_WRITE, PLAIN, -1, 0) == -1 && errno == EINVAL);
    char *at = (char *)syscall(SYS_mmap, NULL, PAGE, READ_WRITE, PLAIN, -1, 0); /* NOLINT */
    char *next = mmap(NULL, PAGE, READ_WRITE, PLAIN, -1, 0);
    CHECK(next - at >= (ptrdiff_t)PAGE && next - at < 1 << 20); /* one window, one cursor */
    CHECK(syscall(SYS_munmap, at, PAGE) == 0 && munmap(next, PAGE) == 0);
    CHECK(syscall(SYS_getpid) == getpid());
}

/* ---- Threads ---------------------------------------------------------------------------------- */

static void check_stack_of(pthread_t thread, const void *local, size_t most)
{
    pthread_attr_t attributes;
    size_t bytes;
    void *start;

    CHECK_EQUAL(pthread_getattr_np(thread, &attributes), 0);
    CHECK_EQUAL(pthread_attr_getstack(&attributes, &start, &bytes), 0);
    pthread_attr_destroy(&attributes);
    CHECK((uintptr_t)local >= (uintptr_t)start);
    CHECK((uintptr_t)local < (uintptr_t)start + bytes);
    CHECK(bytes >= 64 << 10 && bytes <= most);
    /* All of it is there. */
    unsigned char resident;
    for (uintptr_t at = (uintptr_t)start; at < (uintptr_t)start + bytes; at += PAGE)
        CHECK(mincore((void *)(at & -PAGE), PAGE, &resident) == 0);
}

static void test_stack_is_known(void)
{
    struct rlimit limit;
    int local;

    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    check_stack_of(pthread_self(), &local, limit.rlim_cur);
}

static void test_stack_may_be_used(void)
{
    volatile char large[1 << 20];

    for (size_t i = 0; i < sizeof large; i += PAGE / 2)
        large[i] = (char)i;
    CHECK_EQUAL(large[PAGE], (char)PAGE);
}

static void *run_thread(void *counter)
{
    int local;

    check_stack_of(pthread_self(), &local, 64 << 20);
    free(malloc(100000));
    __atomic_add_fetch((int *)counter, 1, __ATOMIC_SEQ_CST);
    return counter;
}

static void test_threads_run(void)
{
    pthread_t threads[8];
    int counter = 0;

    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, run_thread, &counter), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK_EQUAL(counter, 8);
}

/* ---- What the program is told ----------------------------------------------------------------- */

static void test_names_are_the_programs(void)
{
    char comm[16] = "", file[64] = "";
    const char *path = (const char *)getauxval(AT_EXECFN); /* NOLINT */

    CHECK(path && path[0] == '/' && strcmp(strrchr(path, '/'), "/task_preload") == 0);
    CHECK(strcmp(arguments[0], "a name") == 0);
    CHECK(strcmp(arguments[3], "two words") == 0 && arguments[4] == NULL);
    CHECK(strcmp(program_invocation_name, "a name") == 0);
    CHECK(prctl(PR_GET_NAME, comm) == 0 && strcmp(comm, "task_preload") == 0);
    FILE *proc = fopen("/proc/self/comm", "re");
    CHECK(proc && fgets(file, sizeof file, proc) && strcmp(file, "task_preload\n") == 0);
    fclose(proc);
}

static void test_environment_is_the_programs(void)
{
    extern char **environ;

    CHECK(environ[0] && strcmp(environ[0], "FIRST=1") == 0);
    CHECK(environ[1] && strcmp(environ[1], "SECOND=") == 0);
    CHECK(environ[2] == NULL);
    CHECK(strcmp(getenv("FIRST"), "1") == 0);
}

static void check_limits(const char *files, const char *data)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQUAL(limit.rlim_cur, strtoul(files, NULL, 10));
    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    CHECK_EQUAL(limit.rlim_cur, strtoul(data, NULL, 10));
    CHECK(limit.rlim_max >= limit.rlim_cur);
}

static void test_limits_are_the_users(void)
{
    check_limits(arguments[1], arguments[2]);
}

static void test_limits_of_a_child_are_the_users(void)
{
    char *path = (char *)getauxval(AT_EXECFN); /* NOLINT */
    char *const child[] = {path, "child", arguments[1], arguments[2], NULL};
    pid_t pid;
    int status;

    CHECK_EQUAL(posix_spawn(&pid, path, NULL, NULL, child, NULL), 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
}

static void check_as_a_fork(const void *unused)
{
    (void)unused;
    test_mapping_calls_work();
    test_malloc_works();
    check_limits(arguments[1], arguments[2]);
}

static void test_child_by_fork_works_in_a_copy(void)
{
    int before = 1;

    check_in_child(check_as_a_fork, NULL);
    CHECK_EQUAL(before, 1);
}

static void test_descriptors_are_the_standard_ones_alone(void)
{
    int next = dup(0);

    close(next);
    CHECK_EQUAL(next, 3);
    for (int i = 3; i < 100; i++)
        CHECK(close(i) == -1 && errno == EBADF);
}

int main(int argc, char **argv)
{
    arguments = argv;
    if (argc == 4 && !strcmp(argv[1], "child")) {
        check_limits(argv[2], argv[3]);
        return sbrk(PAGE) == (void *)-1; /* an ordinary process: its break moves */
    }
    RUN(test_descriptors_are_the_standard_ones_alone);
    RUN(test_names_are_the_programs);
    RUN(test_environment_is_the_programs);
    RUN(test_break_is_the_tasks_own);
    RUN(test_break_has_its_ends);
    RUN(test_malloc_works);
    RUN(test_break_is_known_while_it_moves);
    RUN(test_mapping_calls_work);
    RUN(test_mapping_calls_set_errno);
    RUN(test_addresses_of_the_programs_choice_work);
    RUN(test_shared_memory_segments_are_attached);
    RUN(test_system_calls_by_number_are_led_the_same_way);
    RUN(test_stack_is_known);
    RUN(test_stack_may_be_used);
    RUN(test_threads_run);
    RUN(test_limits_are_the_users);
    RUN(test_limits_of_a_child_are_the_users);
    RUN(test_child_by_fork_works_in_a_copy);
    return 0;
}
