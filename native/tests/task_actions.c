/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_actions.c: a task that does what its first argument says.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Standard input goes to standard output; a word goes to standard error. */
static int echo(void)
{
    char buffer[4096];
    ssize_t bytes;

    while ((bytes = read(0, buffer, sizeof buffer)) > 0)
        if (write(1, buffer, (size_t)bytes) != bytes)
            return 1;
    return bytes < 0 || write(2, "error", 5) != 5;
}

int main(int argc, char **argv)
{
    const char *action = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "0";

    if (!strcmp(action, "exit"))
        return atoi(argument);
    if (!strcmp(action, "_exit"))
        _exit(atoi(argument));
    if (!strcmp(action, "signal"))
        raise(atoi(argument));
    if (!strcmp(action, "pause"))
        for (;;)
            pause();
    if (!strcmp(action, "echo"))
        return echo();
    if (!strcmp(action, "exec"))
        execl(argument, argument, (char *)NULL);
    if (!strcmp(action, "fork"))
        return fork() == 0 ? 99 : atoi(argument);
    if (!strcmp(action, "malloc"))
        return !memset(malloc((size_t)atoi(argument) << 20), 1, (size_t)atoi(argument) << 20);
    return 100;
}
