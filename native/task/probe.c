/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c: the smallest program.  The core runs it to see that tasks run here, and, with an argument,
 * to learn in what state ld.so is when it has found out all about the processor: see learning.c.
 *
 * It may run with features that are wrong, so it calls nothing that chooses among implementations.
 *
 * It may begin where another run of it has ended (warm.h): then it must find everything as that did.
 */
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "probe.h"
#include "shared.h"

/* Of several ld.so takes the last one. */
static uintptr_t find_platform(char **envp)
{
    uintptr_t platform = 0;

    while (*envp)
        envp++;
    for (const ElfW(auxv_t) *entry = (ElfW(auxv_t) *)(envp + 1); entry->a_type != AT_NULL; entry++)
        if (entry->a_type == AT_PLATFORM)
            platform = entry->a_un.a_val;
    return platform;
}

static void report(struct probe_report *report, char **envp)
{
    const struct task_block *block = (const struct task_block *)getauxval(SHARED_AUXV_TYPE);

    report->image_at = block->window_first;
    report->resumed = block->start.resume != 0;
    report->hwcap = getauxval(AT_HWCAP);
    report->platform = find_platform(envp);
    const volatile char *text = (const volatile char *)report->platform;
    for (size_t i = 0; text && text[i] && i < PROBE_PLATFORM - 1; i++)
        report->platform_text[i] = text[i];
    const volatile uint64_t *words = (const volatile uint64_t *)(report->image_at + report->start);
    for (size_t i = 0; i < report->count; i++)
        report->words[i] = words[i];
}

/* Variables of each kind, and the thread's number, which a mutex has for its owner. */
static bool is_fresh(void)
{
    static int variable = 1, zero;
    static __thread int own = 1, own_zero;
    pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    bool fresh = variable == 1 && zero == 0 && own == 1 && own_zero == 0;

    variable = zero = own = own_zero = 2;
    return fresh && pthread_mutex_lock(&mutex) == 0 && mutex.__data.__owner == gettid();
}

int main(int argc, char **argv, char **envp)
{
    if (argc > 1)
        report((struct probe_report *)strtoull(argv[1], NULL, 16), envp);
    return is_fresh() ? EXIT_SUCCESS : EXIT_FAILURE;
}
