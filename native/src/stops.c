/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stops.c: the watcher, a thread that learns of stops and continues, and who listens to it.
 *
 * A pidfd does not tell of them, so they are asked for with waitid(), of all children at once: those
 * whose exit signal is not SIGCHLD (__WCLONE), as a task's is until it execs.  The stops of ordinary
 * children stay where other libraries look for them; with __WALL they would be taken away, as those of
 * their clones with another exit signal are, and those that a tracer in this process waits for: what
 * is not taken would stand before our tasks' reports.
 *
 * The thread starts when a client listens for the first time, and lives as long as the core.  It is
 * in waitid while somebody listens and there are tasks; else it sleeps on core->stops.word.  Nothing
 * wakes it when the last client stops listening: the next report does, which is nobody's then.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "core.h"

#define NO_TASK (-1)
#define STATUS_CONTINUED 0xffff
#define JOIN_WAIT_NS 20000000UL /* for the watcher, before another child is made */

enum step {
    STEP_SLEEP,
    STEP_ASK,
    STEP_END,
};

static long ask(int kind, pid_t pid, int how, siginfo_t *report)
{
    return sys5(SYS_waitid, kind, pid, (long)(uintptr_t)report,
                WSTOPPED | WCONTINUED | (int)__WCLONE | how, 0);
}

/* As of wait(2).  0: it is a stop for a tracer. */
static int status_of(const siginfo_t *report)
{
    if (report->si_code == CLD_CONTINUED)
        return STATUS_CONTINUED;
    return report->si_code == CLD_STOPPED ? report->si_status << 8 | 0x7f : 0;
}

void stops_look(struct core *core)
{
    atomic_fetch_add(&core->stops.word, 1);
    shared_futex_wake(&core->stops.word, 1);
}

/* ---- The thread ------------------------------------------------------------------------------- */

/* A slot's process, 0 when it has none.  Between the clone and the spawner's taking the lock it is
 * known only to its block, where the kernel has written it before the first instruction; and the block
 * is there while the memory is open, which under the lock is closed before it goes. */
static pid_t process_of(struct core *core, int32_t pipid)
{
    struct slot *slot = core_slot(core, pipid);
    uint32_t state = atomic_load(&slot->state);

    if (state == SLOT_RUNNING)
        return core->tasks[pipid].pid;
    if (state != SLOT_QUEUED ||
        atomic_load(&slot->peer.open) != atomic_load(&slot->peer.generation))
        return 0;
    return atomic_load(&slot->block->pid);
}

static int32_t find_task(struct core *core, pid_t pid)
{
    for (int32_t i = 0; i < (int32_t)core->control->max_tasks; i++)
        if (process_of(core, i) == pid)
            return i;
    return NO_TASK;
}

/* A child has something to report, which is taken under the lock.  Nobody reaps a task under it: so it
 * is the report of the very task that has this PID, and comes before the event of its end; and a task
 * that was reaped meanwhile has none.  Nothing is taken any more when the core is being closed: there
 * may be another one by then, whose tasks these are. */
static void take(struct core *core, pid_t pid)
{
    siginfo_t report = {0};

    core_lock(core);
    if (!core->stopping && ask(P_PID, pid, WNOHANG, &report) == 0 && report.si_pid) {
        int32_t pipid = find_task(core, pid);
        int status = status_of(&report);
        if (pipid != NO_TASK && status)
            core_post_stop(core, pipid, status);
    }
    core_unlock(core, SIDE_PROCESS);
}

static enum step next_step(struct core *core)
{
    core_lock(core);
    enum step step = core->stopping ? STEP_END : core->stops.listeners > 0 ? STEP_ASK : STEP_SLEEP;
    atomic_store(&core->stops.asking, step == STEP_ASK);
    core_unlock(core, SIDE_PROCESS);
    return step;
}

/* The word is read before the look at what there is to do.  A task that is cloned behind an ECHILD, a
 * client that listens behind the look, the end: each changes the word, and the sleep is none. */
static void *watch(void *argument)
{
    struct core *core = argument;

    prctl(PR_SET_NAME, "aiopip-stops");
    for (;;) {
        uint32_t word = atomic_load(&core->stops.word);
        enum step step = next_step(core);
        if (step == STEP_END)
            break;
        siginfo_t report = {0};
        long result = step == STEP_ASK ? ask(P_ALL, 0, WNOWAIT, &report) : -ECHILD;
        atomic_store(&core->stops.asking, false);
        if (result == 0)
            take(core, report.si_pid);
        else if (result != -EINTR)
            shared_futex_wait(&core->stops.word, word, NULL);
    }
    core_release(core);
    return NULL;
}

/* ---- Its start and end ------------------------------------------------------------------------ */

/* In the process's descriptor table, which has the clients' eventfds.  Under the lock, which it needs
 * first of all. */
static int start(struct core *core)
{
    int result = core->stops.started ? 0 : core_start_thread(&core->stops.thread, watch, core);

    if (result == 0 && !core->stops.started) {
        core->stops.started = true;
        core->references++;
    }
    return result;
}

/* A child that is stopped: its report ends the watcher's waitid. */
static long clone_stopped(struct core *core, char *stack, size_t bytes)
{
    return arch_clone(SYS_clone, (long)(KERNEL_CLONE_VM | KERNEL_CLONE_FS | KERNEL_CLONE_FILES),
                      (long)(uintptr_t)(stack + bytes), 0, 0, 0, child_stop, core->control);
}

static void end_child(pid_t child)
{
    siginfo_t end;

    kill(child, SIGKILL);
    while (sys5(SYS_waitid, P_PID, child, (long)(uintptr_t)&end, WEXITED | KERNEL_WALL, 0) ==
           -EINTR)
        ;
}

static bool join(struct core *core)
{
    uint64_t end_ns = core_now_ns() + JOIN_WAIT_NS;
    struct timespec end = {(time_t)(end_ns / 1000000000UL), (long)(end_ns % 1000000000UL)};

    return pthread_clockjoin_np(core->stops.thread, NULL, CLOCK_MONOTONIC, &end) == 0;
}

/* Each end of a child has waitid look again, and without children it says ECHILD: so mostly, now that
 * all tasks are reaped, the watcher sleeps on its word.  But children by clone of another library, and
 * what this process traces, count too, and it would be in waitid as long as any of these lives.  Then a
 * child of our own brings it back.  `stopping` is set: if it is not asking, it will not any more.
 *
 * The child's report may be lost on the watcher: another wait in this process takes it (waitpid(-1,
 * __WALL | WUNTRACED)), or somebody outside kills the child, or has it go on.  Then there is another.
 *
 * Where there can be no such child (EAGAIN), the watcher is left behind.  It has the core for itself
 * then, and goes at the next report, without taking it. */
void stops_end(struct core *core)
{
    _Alignas(16) char stack[ARCH_PAGE];

    core_lock(core);
    bool ended = !core->stops.started;
    core_unlock(core, SIDE_SPAWNER);
    stops_look(core);
    while (!ended) {
        long child =
            atomic_load(&core->stops.asking) ? clone_stopped(core, stack, sizeof stack) : 0;
        if (child < 0) {
            pthread_detach(core->stops.thread);
            return;
        }
        ended = join(core);
        if (child > 0)
            end_child((pid_t)child);
    }
}

/* ---- Clients ---------------------------------------------------------------------------------- */

/* What was before is not told: not the stops that nobody has asked for, and not the exports. */
static void begin(struct aiopip_client *client)
{
    struct core *core = client->core;
    siginfo_t report;

    for (int32_t i = 0; i < (int32_t)core->control->max_tasks; i++) {
        pid_t pid = process_of(core, i);
        if (core->tasks[i].client != client)
            continue;
        if (pid)
            ask(P_PID, pid, WNOHANG, &report);
        atomic_store(&core_slot(core, i)->interest, 1);
    }
    client->listens = true;
    core->stops.listeners++;
}

int aiopip_listen(aiopip_client *client, int on)
{
    struct core *core = client->core;
    int result = 0;

    if (core->pid != getpid())
        return -ESRCH;
    core_lock(core);
    if (on && !client->listens) {
        result = start(core);
        if (result == 0)
            begin(client);
    } else if (!on && client->listens) {
        client->listens = false;
        core->stops.listeners--;
    }
    core_unlock(core, SIDE_PROCESS);
    if (result == 0)
        stops_look(core);
    return result;
}
