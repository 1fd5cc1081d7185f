/* SPDX-License-Identifier: BSD-2-Clause
 *
 * entry.c: a function of the program in place of its main.
 *
 * A program's first instructions hand main over to libc's __libc_start_main.  They find this one
 * first, though they ask for a version of libc's, since this library knows no versions; libc's own does
 * the rest: constructors run before, what atexit has behind, and the result is the exit status.
 */
#include "task.h"

typedef int main_function(int argc, char **argv, char **envp);
typedef int start_function(main_function *run, int argc, char **argv, void (*init)(void),
                           void (*fini)(void), void (*loader_fini)(void), void *stack_end);

__attribute__((visibility("default"))) start_function __libc_start_main;

static int run_entry(int argc, char **argv, char **envp)
{
    const struct task_start *start = &task_block->start;
    int (*function)(const void *) =
        (int (*)(const void *))(symbols_program_base() + start->function);

    (void)argc;
    (void)argv;
    (void)envp;
    return function(start->options->arg);
}

int __libc_start_main(main_function *run, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack_end)
{
    /* musl runs constructors, ours too, in there. */
    const struct task_block *block = task_block ? task_block : task_find_block();

    if (block && block->start.options && block->start.options->entry)
        run = run_entry;
    if (!task_libc.start_main && !symbols_of_libc(&task_libc))
        for (;;) /* who has called us if not code that was linked with one? */
            sys1(SYS_exit_group, 127);
    start_function *next = (start_function *)task_libc.start_main;
    return next(run, argc, argv, init, fini, loader_fini, stack_end);
}
