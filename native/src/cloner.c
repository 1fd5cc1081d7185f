/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cloner.c: the thread that makes those tasks which get the process's descriptor table, or a copy of
 * it.
 *
 * The spawner has a table of its own.  This thread is started by the first such spawn, by the client's
 * thread, whose table it has, and lives as long as the core: its end would be that of its tasks.  It
 * does what the spawner tells it to, while that waits.
 */
#include <sys/prctl.h>

#include "core.h"

enum cloner_word {
    CLONER_IDLE,
    CLONER_CALLED, /* function and argument are set */
    CLONER_STOPPED,
};

static void set_word(struct core *core, enum cloner_word word)
{
    atomic_store(&core->cloner.word, word);
    shared_futex_wake(&core->cloner.word, INT32_MAX);
}

static void *cloner_main(void *argument)
{
    struct core *core = argument;
    uint32_t word;

    prctl(PR_SET_NAME, "aiopip-cloner");
    while ((word = atomic_load(&core->cloner.word)) != CLONER_STOPPED) {
        if (word == CLONER_IDLE) {
            shared_futex_wait(&core->cloner.word, word, NULL);
            continue;
        }
        core->cloner.function(core->cloner.argument);
        set_word(core, CLONER_IDLE);
    }
    return NULL;
}

int cloner_start(struct core *core)
{
    if (core->cloner.started || !core->private_descriptors)
        return 0;
    /* Its own from its start on. */
    int result = attributes_read(&core->cloner.attributes);
    if (result == 0)
        result = core_start_thread(&core->cloner.thread, cloner_main, core);
    core->cloner.started = result == 0;
    return result;
}

void cloner_call(struct core *core, void (*function)(void *), void *argument)
{
    core->cloner.function = function;
    core->cloner.argument = argument;
    set_word(core, CLONER_CALLED);
    while (atomic_load(&core->cloner.word) == CLONER_CALLED)
        shared_futex_wait(&core->cloner.word, CLONER_CALLED, NULL);
}

void cloner_end(struct core *core)
{
    core_lock(core);
    bool started = core->cloner.started;
    core_unlock(core, SIDE_SPAWNER);
    if (!started)
        return;
    set_word(core, CLONER_STOPPED);
    pthread_join(core->cloner.thread, NULL);
}
