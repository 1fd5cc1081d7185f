/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_warm.c: a task that says in which state it was started, and then leaves another one behind:
 * ADDRESS ACTION ARGUMENTS...
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shared.h"
#include "warm_facts.h"

#define TABLE_BYTES (300UL << 10)
#define DEPTH 256
#define OUTSIDE 0x290000000000UL

static struct warm_facts *facts;
static int variable = 1, zero, constructed;
static char table[TABLE_BYTES], words[3 * ARCH_PAGE] = "words";
static __thread int own = 1, own_zero;

__attribute__((constructor)) static void construct(int argc)
{
    constructed += argc > 0;
}

static void tell_exit(void)
{
    facts->at_exit = 1;
}

static void *run(void *argument)
{
    return own == 1 ? argument : NULL;
}

static uint64_t at_thread(long offset)
{
    return *(const uint64_t *)((uintptr_t)pthread_self() + (uintptr_t)offset);
}

/* ---- What it was started with ----------------------------------------------------------------- */

static bool is_variable_fresh(void)
{
    for (size_t i = 0; i < sizeof table; i++)
        if (table[i])
            return false;
    for (size_t i = sizeof "words"; i < sizeof words; i++)
        if (words[i])
            return false;
    return variable == 1 && zero == 0 && own == 1 && own_zero == 0 && constructed == 1 &&
           strcmp(words, "words") == 0 && strcmp(setlocale(LC_ALL, NULL), "C") == 0;
}

static bool is_processor_right(void)
{
    cpu_set_t one, all;
    bool right = true;

    sched_getaffinity(0, sizeof all, &all);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        CPU_ZERO(&one);
        CPU_SET((size_t)i, &one);
        if (CPU_ISSET((size_t)i, &all) && sched_setaffinity(0, sizeof one, &one) == 0)
            right &= sched_getcpu() == i;
    }
    sched_setaffinity(0, sizeof all, &all);
    return right;
}

static bool is_stack_right(void)
{
    pthread_attr_t attributes;
    void *start;
    size_t bytes;

    if (pthread_getattr_np(pthread_self(), &attributes) ||
        pthread_attr_getstack(&attributes, &start, &bytes))
        return false;
    pthread_attr_destroy(&attributes);
    return (uintptr_t)&bytes - (uintptr_t)start < bytes;
}

static bool run_thread(void)
{
    pthread_t thread;
    void *result = NULL;

    return pthread_create(&thread, NULL, run, facts) == 0 && pthread_join(thread, &result) == 0 &&
           result == facts;
}

static bool load(void)
{
    void *library = dlopen("libm.so.6", RTLD_NOW);
    double (*cosine)(double) = library ? (double (*)(double))dlsym(library, "cos") : NULL;

    return cosine && cosine(0) == 1;
}

static void tell(int argc, char **argv)
{
    const struct task_block *block = (const struct task_block *)getauxval(SHARED_AUXV_TYPE);
    static const unsigned long types[] = {AT_PHDR,   AT_PHENT,  AT_PHNUM, AT_ENTRY, AT_HWCAP,
                                          AT_HWCAP2, AT_PAGESZ, AT_UID,   AT_SECURE};
    pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    struct rlimit limit;

    facts->variables = is_variable_fresh();
    facts->owner =
        pthread_mutex_lock(&mutex) == 0 && mutex.__data.__owner == gettid() && gettid() == getpid();
    facts->processor = is_processor_right();
    facts->stack = is_stack_right();
    facts->threads = run_thread();
    facts->libraries = load();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        facts->auxiliary = facts->auxiliary * 31 + getauxval(types[i]);
    facts->auxiliary = warm_sum(facts->auxiliary, (const char *)getauxval(AT_EXECFN));
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit((__rlimit_resource_t)i, &limit) == 0)
            facts->limits = facts->limits * 31 + limit.rlim_cur + limit.rlim_max;
    facts->resumed = block->start.resume != 0;
    for (int i = 0; i < argc; i++)
        facts->arguments = warm_sum(facts->arguments, argv[i]);
    for (char **at = environ; *at; at++)
        facts->environment = warm_sum(facts->environment, *at);
    memcpy(&facts->random, (const void *)getauxval(AT_RANDOM), sizeof facts->random);
    facts->canary = at_thread(ARCH_STACK_GUARD);
    facts->guard = at_thread(ARCH_POINTER_GUARD);
}

/* ---- What it leaves --------------------------------------------------------------------------- */

static int dig(int depth)
{
    volatile char room[ARCH_PAGE];

    memset((char *)room, 0x5a, sizeof room);
    return depth ? dig(depth - 1) + room[depth] : room[0];
}

/* Whatever a program may write to, it writes to. */
static int scribble(char **argv)
{
    variable = zero = own = own_zero = 2;
    memset(table, 0x5a, sizeof table);
    memset(words, 0x5a, sizeof words);
    for (char **at = argv; *at; at++)
        memset(*at, 'x', strlen(*at));
    for (char **at = environ; *at; at++)
        memset(*at, 'x', strlen(*at));
    setlocale(LC_ALL, "C.UTF-8");
    setenv("WARM", "yes", 1);
    setvbuf(stdout, NULL, _IONBF, 0);
    return dig(DEPTH) == 0 || !strdup("left");
}

/* A page of its own code becomes the task's, and looks as before. */
static int write_text(void)
{
    uint8_t *page = (uint8_t *)((uintptr_t)&dig & -ARCH_PAGE);

    if (mprotect(page, ARCH_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        return 1;
    *(volatile uint8_t *)page = *(volatile uint8_t *)page;
    return mprotect(page, ARCH_PAGE, PROT_READ | PROT_EXEC) < 0;
}

/* A page that ld.so has written to and protected gets another content, and its rights back. */
static int write_protected(void)
{
    Elf64_Dyn *entry = _DYNAMIC;

    while (entry->d_tag != DT_DEBUG)
        entry++;
    void *page = (void *)((uintptr_t)entry & -ARCH_PAGE);
    if (mprotect(page, ARCH_PAGE, PROT_READ | PROT_WRITE) < 0)
        return 1;
    entry->d_un.d_val ^= 1;
    return mprotect(page, ARCH_PAGE, PROT_READ) < 0;
}

static char *second_page(void)
{
    return (char *)((uintptr_t)words + ARCH_PAGE) - (uintptr_t)words % ARCH_PAGE;
}

static int map(int flags, void *address)
{
    return mmap(address, ARCH_PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED;
}

static int splice_words(void)
{
    struct iovec vector = {table, 8192};

    memset(table, 's', 8192);
    return vmsplice(1, &vector, 1, 0) != 8192;
}

/* A child with a copy of the memory lives on, and says when it is asked what it has there. */
static int leave_child(void)
{
    char byte;

    variable = 3;
    if (fork())
        return 0;
    if (read(0, &byte, 1) == 1)
        byte = variable == 3 ? 'y' : 'n';
    _exit(write(1, &byte, 1) != 1);
}

static void *loop(void *argument)
{
    for (;;)
        zero++;
    return argument;
}

static int leave_thread(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, loop, NULL);
}

static int act(const char *action, char **argv)
{
    if (!strcmp(action, "nothing"))
        return 0;
    if (!strcmp(action, "scribble"))
        return scribble(argv);
    if (!strcmp(action, "text"))
        return write_text();
    if (!strcmp(action, "relro"))
        return write_protected();
    if (!strcmp(action, "guard")) /* MADV_GUARD_INSTALL, Linux 6.13 */
        return madvise(second_page(), ARCH_PAGE, 102) < 0 && errno != EINVAL;
    if (!strcmp(action, "protect"))
        return mprotect(second_page(), ARCH_PAGE, PROT_READ) < 0;
    if (!strcmp(action, "unmap"))
        return munmap(second_page(), ARCH_PAGE) < 0;
    if (!strcmp(action, "drop"))
        return madvise(second_page(), ARCH_PAGE, MADV_DONTNEED) < 0;
    if (!strcmp(action, "private"))
        return map(MAP_PRIVATE, NULL);
    if (!strcmp(action, "shared"))
        return map(MAP_SHARED, NULL);
    if (!strcmp(action, "outside"))
        return map(MAP_PRIVATE | MAP_FIXED_NOREPLACE, (void *)OUTSIDE);
    if (!strcmp(action, "splice"))
        return splice_words();
    if (!strcmp(action, "signal"))
        return raise(SIGSEGV);
    if (!strcmp(action, "exec"))
        return execl("/bin/true", "true", (char *)NULL);
    if (!strcmp(action, "fork"))
        return leave_child();
    if (!strcmp(action, "thread"))
        return leave_thread();
    if (!strcmp(action, "pause"))
        for (;;)
            pause();
    return 100;
}

int main(int argc, char **argv)
{
    facts = (struct warm_facts *)strtoull(argv[1], NULL, 16);
    tell(argc, argv);
    atexit(tell_exit);
    return act(argv[2], argv);
}
