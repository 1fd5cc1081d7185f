/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c: the smallest program.  The core runs it to see that tasks run here, and, with an argument,
 * to learn in what state ld.so is when it has found out all about the processor: see learning.c.
 *
 * It may run with features that are wrong, so it calls nothing that chooses among implementations.
 */
#include <stdlib.h>
#include <sys/auxv.h>

#include "probe.h"
#include "shared.h"

static void report(struct probe_report *report)
{
    const struct task_block *block = (const struct task_block *)getauxval(SHARED_AUXV_TYPE);

    report->image_at = block->window_first;
    report->hwcap = getauxval(AT_HWCAP);
    report->platform = getauxval(AT_PLATFORM);
    const volatile char *text = (const volatile char *)report->platform;
    for (size_t i = 0; text && text[i] && i < PROBE_PLATFORM - 1; i++)
        report->platform_text[i] = text[i];
    const volatile uint64_t *words = (const volatile uint64_t *)(report->image_at + report->start);
    for (size_t i = 0; i < report->count; i++)
        report->words[i] = words[i];
}

int main(int argc, char **argv)
{
    if (argc > 1)
        report((struct probe_report *)strtoull(argv[1], NULL, 16));
    return 0;
}
