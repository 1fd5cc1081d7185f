/* SPDX-License-Identifier: BSD-2-Clause
 *
 * child.c: see child.h.
 *
 * This code runs in a new process that shares the memory of the root and still has the spawner
 * thread's thread-local storage: system calls only, no libc, no errno, no stack protector, no
 * instrumentation.  All signals are blocked until the last step but SIGKILL.
 */
#include "child.h"

#include <errno.h>
#include <linux/prctl.h>

#include "warm_state.h"

#define SIGNAL_COUNT 64
#define SIGNAL_KILL 9
#define SIGNAL_PIPE 13
#define SIGNAL_STOP 19
#define SIGNAL_XFSZ 25
#define RESOURCE_NOFILE 7
#define RESOURCE_DATA 2

static __attribute__((noreturn)) void leave(void)
{
    for (;;)
        sys1(SYS_exit_group, 127);
}

void child_fail(struct task_block *block, enum aiopip_failure failure, long error)
{
    atomic_store_explicit(&block->slot->failure, failure, memory_order_relaxed);
    atomic_store_explicit(&block->slot->error, (int32_t)-error, memory_order_relaxed);
    atomic_store_explicit(&block->slot->started, TASK_STARTED_FAILED, memory_order_release);
    leave();
}

void child_fail_option(struct task_block *block, const char *option, int part, long error)
{
    block->failed_option = option;
    block->failed_part = part;
    child_fail(block, AIOPIP_FAILED_OPTIONS, error);
}

static __attribute__((noreturn)) void fail_option(struct task_block *block, const char *option,
                                                  long error)
{
    child_fail_option(block, option, CHILD_NO_PART, error);
}

/* Handlers are the root's functions: none may run here.  clone3 has reset them; the legacy call has
 * not.  What the root ignores stays ignored, but for what Python ignores for itself. */
static void reset_signals(const struct task_start *start)
{
    static const struct kernel_sigaction default_action = {0};
    struct kernel_sigaction old;

    for (int i = 1; start->reset_handlers && i <= SIGNAL_COUNT; i++) {
        if (i == SIGNAL_KILL || i == SIGNAL_STOP)
            continue;
        if (sys4(SYS_rt_sigaction, i, 0, (long)(uintptr_t)&old, 8) == 0 &&
            (uintptr_t)old.handler > 1)
            sys4(SYS_rt_sigaction, i, (long)(uintptr_t)&default_action, 0, 8);
    }
    sys4(SYS_rt_sigaction, SIGNAL_PIPE, (long)(uintptr_t)&default_action, 0, 8);
    sys4(SYS_rt_sigaction, SIGNAL_XFSZ, (long)(uintptr_t)&default_action, 0, 8);
}

/* A new process leads no group, so that setsid succeeds; a session's leader leads its group, too. */
static void set_group(struct task_block *block)
{
    const struct task_start *start = &block->start;
    long result;

    if (start->flags & AIOPIP_SPAWN_NEW_SESSION && (result = sys0(SYS_setsid)) < 0)
        fail_option(block, "new_session", result);
    if (start->flags & AIOPIP_SPAWN_PROCESS_GROUP &&
        (result = sys2(SYS_setpgid, 0, start->process_group)) < 0)
        fail_option(block, "process_group", result);
}

static void set_limit(struct task_block *block, int resource, const struct kernel_rlimit *limit)
{
    long result = sys4(SYS_prlimit64, 0, resource, (long)(uintptr_t)limit, 0);
    if (result < 0)
        fail_option(block, "resource limits", result);
}

static void set_limits(struct task_block *block)
{
    /* With a soft limit of 0 the break cannot move and mmap goes on: two libcs on one break would
     * corrupt each other.  The preload puts the limit back when it has taken the break away. */
    const struct kernel_rlimit no_break = {0, block->start.data_limit.hard};

    if (!block->start.exec && !block->start.resume)
        set_limit(block, RESOURCE_DATA, &no_break);
    if (block->start.set_file_limit)
        set_limit(block, RESOURCE_NOFILE, &block->start.file_limit);
    if (block->start.options)
        child_limit(block);
}

/* The spawner's attributes are not those of the thread that asked for the task. */
static void set_scheduling(struct task_block *block)
{
    struct task_start *start = &block->start;
    long result = 0;

    if (start->set_affinity)
        result = sys3(SYS_sched_setaffinity, 0, (long)start->affinity_bytes,
                      (long)(uintptr_t)start->affinity);
    if (result < 0)
        fail_option(block, "cpu", result);
    if (start->set_scheduler)
        result = sys3(SYS_sched_setattr, 0, (long)(uintptr_t)&start->scheduler, 0);
    if (result < 0)
        fail_option(block, "scheduling", result);
    if (start->options)
        child_renice(block);
}

/* Right to the client, who looks for it when its descriptor becomes readable. */
static void tell_started(struct task_block *block)
{
    const uint64_t one = 1;

    atomic_store_explicit(&block->slot->started, TASK_STARTED_DONE, memory_order_release);
    if (block->start.event_fd >= 0)
        sys3(SYS_write, block->start.event_fd, (long)(uintptr_t)&one, sizeof one);
    else
        shared_wake_spawner(block->control);
}

/* Wait until SIGSTOP is pending here; spawner.c says why.  It may have been sent while this thread was
 * on its way to look at the gate.  A signal is taken at the end of a system call, so there is one more
 * behind the look: without it, ld.so's first instructions would run until an interrupt comes. */
static void wait_at_gate(struct task_block *block)
{
    while (!atomic_load(&block->gate))
        shared_futex_wait(&block->gate, 0, NULL);
    sys0(SYS_getppid);
}

/* The root may have died before the first line: then nobody is told, and nobody is there. */
void child_die_with_root(const struct control *control)
{
    sys2(SYS_prctl, PR_SET_PDEATHSIG, SIGNAL_KILL);
    if (sys0(SYS_getppid) != control->root_pid)
        leave();
}

void child_stop(void *argument)
{
    child_die_with_root(argument);
    sys2(SYS_kill, sys0(SYS_getpid), SIGNAL_STOP);
    leave();
}

/* Leave the space: from the execve on this is a process as any other.  What is known of the slot is
 * true by then, for nobody reads it before the clone has returned, which the execve lets it do. */
static __attribute__((noreturn)) void execute(struct task_block *block)
{
    const struct exec_plan *plan = block->start.exec;
    long error = 0;

    atomic_store(&block->slot->quiet, 1);
    atomic_store(&block->slot->started, TASK_STARTED_DONE);
    for (const char **path = plan->paths; *path; path++) {
        long result = sys3(SYS_execve, (long)(uintptr_t)*path, (long)(uintptr_t)plan->argv,
                           (long)(uintptr_t)plan->envp);
        if (result != -ENOENT && result != -ENOTDIR && !error)
            error = result;
    }
    child_fail(block, AIOPIP_FAILED_PROGRAM, error ? error : -ENOENT);
}

/* Go on behind ld.so, in a window that is as it has left it, and say here what the preload's constructor
 * has said then.  What ld.so has told the kernel of its thread is told again for this one. */
static __attribute__((noreturn)) void resume(struct task_block *block)
{
    const struct task_start *start = &block->start;
    const struct warm *warm = start->warm;
    struct kernel_rseq *rseq = (struct kernel_rseq *)warm->rseq;

    *warm->thread_id = atomic_load(&block->pid);
    arch_set_thread(warm->thread);
    sys1(SYS_set_tid_address, (long)(uintptr_t)warm->thread_id);
    sys2(SYS_set_robust_list, (long)warm->robust_list, (long)warm->robust_bytes);
    if (rseq) {
        *rseq = (struct kernel_rseq){.cpu_id = KERNEL_RSEQ_UNREGISTERED};
        if (sys4(SYS_rseq, (long)warm->rseq, KERNEL_RSEQ_BYTES, 0, ARCH_RSEQ_SIGNATURE) < 0)
            rseq->cpu_id = KERNEL_RSEQ_FAILED;
    }
    atomic_store(&block->slot->loaded, TASK_LOADED_TRACKED);
    if (shared_loads_wanted(block->control))
        shared_wake_spawner(block->control);
    arch_enter(start->resume, warm->entry, start->stack);
}

void child_main(void *argument)
{
    struct task_block *block = argument;
    struct task_start *start = &block->start;
    long result;

    child_die_with_root(block->control);
    reset_signals(start);
    set_group(block);
    child_place_descriptors(block);
    if (start->cwd && (result = sys1(SYS_chdir, (long)(uintptr_t)start->cwd)) < 0)
        child_fail(block, AIOPIP_FAILED_CWD, result);
    if (start->options && start->options->given & AIOPIP_OPTION_UMASK)
        sys1(SYS_umask, start->options->umask);
    set_limits(block);
    set_scheduling(block);
    if (start->options)
        child_change_credentials(block);
    sys2(SYS_prctl, PR_SET_NAME, (long)(uintptr_t)start->comm);
    sys4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)(uintptr_t)&start->signal_mask, 0, 8);
    if (start->exec)
        execute(block);

    tell_started(block);
    if (start->event_fd >= 0)
        child_close_descriptors(block);
    if (start->flags & AIOPIP_SPAWN_STOPPED)
        wait_at_gate(block);
    if (start->resume)
        resume(block);
    arch_enter(start->entry, 0, start->stack);
}
