/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_static.c: a program that cannot be a task: it is linked statically, at a fixed address, and
 * without a libc, which would have to be installed in that form.  Exits with 7.
 */
#include "arch_x86_64.h"
#include "kernel.h"

void _start(void);

__attribute__((noreturn)) void _start(void)
{
    for (;;)
        sys1(SYS_exit_group, 7);
}
