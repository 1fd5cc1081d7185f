/* SPDX-License-Identifier: BSD-2-Clause
 *
 * preload.c: libaiopip-task.so, which ld.so loads into every task and initialises first of all.
 *
 * It has no libc of its own: what it calls by name ld.so binds to the task's.  Its constructor
 * leads libc's mapping functions through the ledger, and the break, of which there would be one for
 * all tasks, to one of its own, puts RLIMIT_DATA back and reports to the root.  libc's own callers do not go through the
 * PLT, so the functions themselves are overwritten: their first bytes become a jump.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "task.h"

#define WEAK __attribute__((weak))
#define PUBLIC __attribute__((visibility("default")))
#define NEXT ((void *)-1) /* RTLD_NEXT */
#define PROTECTION_RX 5   /* PROT_READ | PROT_EXEC */
#define PROTECTION_RWX 7
#define RESOURCE_DATA 2 /* RLIMIT_DATA */

extern unsigned long getauxval(unsigned long type);
extern int *__errno_location(void);
extern WEAK void *dlsym(void *scope, const char *name);
extern WEAK char __libc_single_threaded;
extern WEAK const char *gnu_get_libc_version(void);
extern WEAK char **environ;

struct task_block *task_block;
struct symbols task_libc;

static void *pointer_or_error(long result)
{
    if ((unsigned long)result > -4096UL) {
        *__errno_location() = (int)-result;
        return (void *)-1;
    }
    return (void *)result;
}

/* ---- What stands in for libc's functions; same signatures, same errors ----------------------- */

static void *task_mmap(uintptr_t address, size_t bytes, int protection, int flags, int descriptor,
                       long offset)
{
    return pointer_or_error(
        ledger_mmap(task_block, address, bytes, protection, flags, descriptor, offset));
}

static int task_munmap(uintptr_t address, size_t bytes)
{
    return (int)(intptr_t)pointer_or_error(ledger_munmap(task_block, address, bytes));
}

static void *task_mremap(uintptr_t address, size_t bytes, size_t new_bytes, int flags,
                         uintptr_t new_address)
{
    return pointer_or_error(
        ledger_mremap(task_block, address, bytes, new_bytes, flags, new_address));
}

static void *task_sbrk(intptr_t increment)
{
    return pointer_or_error(task_move_break(increment));
}

static int task_brk(void *address)
{
    return (int)(intptr_t)pointer_or_error(task_set_break((uintptr_t)address));
}

/* Attach where the ledger finds it: reserve the place, then have shmat take it over.  An address of
 * the caller's choice is reserved too. */
static void *task_shmat(int id, const void *address, int flags)
{
    struct {
        char permissions[48];
        size_t bytes;
        long rest[16];
    } status = {0}; /* struct shmid_ds */
    const int ipc_stat = 2, shm_remap = 040000, shm_round = 020000;
    uintptr_t at = (uintptr_t)address & (flags & shm_round ? -ARCH_PAGE : UINTPTR_MAX);
    /* PRIVATE ANONYMOUS NORESERVE, and FIXED or FIXED_NOREPLACE */
    long kind = 0x4022 | (!at ? 0 : flags & shm_remap ? 0x10 : KERNEL_MAP_FIXED_NOREPLACE);

    long result = sys3(SYS_shmctl, id, ipc_stat, (long)(uintptr_t)&status);
    if (result < 0)
        return pointer_or_error(result);
    result = ledger_mmap(task_block, at, status.bytes, 0, kind, -1, 0);
    if (result == -EEXIST)
        result = -EINVAL; /* as shmat says it */
    if ((unsigned long)result <= -4096UL) {
        long place = result;
        result = sys3(SYS_shmat, id, place, flags | shm_remap);
        if ((unsigned long)result > -4096UL)
            ledger_munmap(task_block, (uintptr_t)place, status.bytes);
    }
    return pointer_or_error(result);
}

/* ---- Asynchronous I/O: contexts belong to the space, and must be ended with the task --------- */

static long aio_setup(unsigned events, uintptr_t *context)
{
    long result = sys2(SYS_io_setup, events, (long)(uintptr_t)context);

    for (int i = 0; result == 0 && i < SHARED_AIO; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&task_block->aio[i], &none, *context))
            return 0;
    }
    if (result == 0)
        atomic_fetch_add(&task_block->control->untracked, 1);
    return result;
}

static long aio_destroy(uintptr_t context)
{
    for (int i = 0; i < SHARED_AIO; i++) {
        uintptr_t expected = context;
        if (atomic_compare_exchange_strong(&task_block->aio[i], &expected, 0))
            break;
    }
    return sys1(SYS_io_destroy, (long)context);
}

/* libaio's functions, which make the system calls themselves; found before libaio's. */
PUBLIC int io_setup(int events, uintptr_t *context);
PUBLIC int io_destroy(uintptr_t context);

int io_setup(int events, uintptr_t *context)
{
    return (int)(task_block ? aio_setup((unsigned)events, context)
                            : sys2(SYS_io_setup, events, (long)(uintptr_t)context));
}

int io_destroy(uintptr_t context)
{
    return (int)(task_block ? aio_destroy(context) : sys1(SYS_io_destroy, (long)context));
}

/* ---- Pages that are lent ---------------------------------------------------------------------- */

/* From now on the kernel may read from the task's pages when it has ended: they may be unmapped then, but
 * not written to. */
static void lend(void)
{
    if (task_block)
        atomic_store_explicit(&task_block->lends, 1, memory_order_relaxed);
}

static void look_at_option(long level, long option)
{
    const int socket = 1, zero_copy = 60; /* SOL_SOCKET, SO_ZEROCOPY */

    if (level == socket && option == zero_copy)
        lend();
}

/* Found before libc's. */
PUBLIC long vmsplice(int pipe, const void *vector, size_t count, unsigned flags);
PUBLIC int setsockopt(int socket, int level, int option, const void *value, unsigned bytes);

long vmsplice(int pipe, const void *vector, size_t count, unsigned flags)
{
    lend();
    return (long)pointer_or_error(
        sys4(SYS_vmsplice, pipe, (long)(uintptr_t)vector, (long)count, flags));
}

int setsockopt(int socket, int level, int option, const void *value, unsigned bytes)
{
    look_at_option(level, option);
    return (int)(intptr_t)pointer_or_error(
        sys5(SYS_setsockopt, socket, level, option, (long)(uintptr_t)value, bytes));
}

static long own_or(const char *path)
{
    const char *own = task_own_program(path);

    return (long)(own ? own : path);
}

/* libc's syscall(): the same calls as above, for those who make them so. */
static long task_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result;

    switch (number) {
    case SYS_mmap:
        result = ledger_mmap(task_block, (uintptr_t)a, (size_t)b, c, d, e, f);
        break;
    case SYS_munmap:
        result = ledger_munmap(task_block, (uintptr_t)a, (size_t)b);
        break;
    case SYS_mremap:
        result = ledger_mremap(task_block, (uintptr_t)a, (size_t)b, (size_t)c, d, (uintptr_t)e);
        break;
    case SYS_brk:
        task_set_break((uintptr_t)a); /* the break, whether it was moved or not */
        result = (long)task_break();
        break;
    case SYS_io_setup:
        result = aio_setup((unsigned)a, (uintptr_t *)b);
        break;
    case SYS_io_destroy:
        result = aio_destroy((uintptr_t)a);
        break;
    case SYS_vmsplice:
        lend();
        result = sys4(number, a, b, c, d);
        break;
    case SYS_setsockopt:
        look_at_option(b, c);
        result = sys5(number, a, b, c, d, e);
        break;
    case SYS_readlink:
        result = task_raw_readlink(number, 0, (const char *)a, (char *)b, c);
        break;
    case SYS_readlinkat:
        result = task_raw_readlink(number, a, (const char *)b, (char *)c, d);
        break;
    case SYS_execve:
    case SYS_open:
        result = sys3(number, own_or((const char *)a), b, c);
        break;
    case SYS_openat:
        result = sys4(number, a, own_or((const char *)b), c, d);
        break;
    default:
        result = sys6(number, a, b, c, d, e, f);
    }
    return (long)pointer_or_error(result);
}

/* ---- Credentials ------------------------------------------------------------------------------ */

/* A change of credentials takes two things away: the signal that ends the task with its root, and,
 * from the whole space, that it may be dumped (and so looked into).  libc's function does the
 * change, in all threads; then both are put back.  Was the root quicker to die, this is the end. */
static int change_credentials(const char *name, long a, long b, long c)
{
    const int set_death_signal = 1, get_dumpable = 3, set_dumpable = 4, kill = 9;
    int (*next)(long, long, long) = (int (*)(long, long, long))dlsym(NEXT, name);
    long dumpable = sys1(SYS_prctl, get_dumpable);
    int result = next(a, b, c);

    if (task_block &&
        sys0(SYS_getpid) == atomic_load_explicit(&task_block->pid, memory_order_relaxed)) {
        if (dumpable == 1)
            sys2(SYS_prctl, set_dumpable, 1);
        sys2(SYS_prctl, set_death_signal, kill);
        if (sys0(SYS_getppid) != task_block->control->root_pid)
            sys2(SYS_kill, sys0(SYS_getpid), kill);
    }
    return result;
}

#define CREDENTIALS(name)                          \
    PUBLIC int name(long a, long b, long c);       \
    int name(long a, long b, long c)               \
    {                                              \
        return change_credentials(#name, a, b, c); \
    }
CREDENTIALS(setuid)
CREDENTIALS(setgid)
CREDENTIALS(seteuid)
CREDENTIALS(setegid)
CREDENTIALS(setreuid)
CREDENTIALS(setregid)
CREDENTIALS(setresuid)
CREDENTIALS(setresgid)
CREDENTIALS(setfsuid)
CREDENTIALS(setfsgid)

/* ---- The end ---------------------------------------------------------------------------------- */

/* Whether nothing can run on our memory behind our end: with no other thread nobody is just making
 * a process, and without children there is none that shares it. */
static int is_alone(void)
{
    struct {
        int32_t words[32];
    } information; /* siginfo_t */
    const int p_all = 0, exited_nohang_nowait = 0x1000005;

    return &__libc_single_threaded && __libc_single_threaded &&
           sys5(SYS_waitid, p_all, 0, (long)(uintptr_t)&information,
                exited_nohang_nowait | KERNEL_WALL, 0) == -ECHILD;
}

/* A child of this task runs this too, in its own copy of the memory or, after vfork, in ours: it
 * must not speak for the task. */
static __attribute__((noreturn)) void task_exit(int status)
{
    if (sys0(SYS_getpid) == atomic_load_explicit(&task_block->pid, memory_order_relaxed))
        atomic_store_explicit(&task_block->slot->quiet, (uint32_t)is_alone(), memory_order_release);
    for (;;)
        sys1(SYS_exit_group, status);
}

/* ---- Patching -------------------------------------------------------------------------------- */

#define NEEDED 4 /* the first functions: without them the ledger does not know what libc maps */

static const char *const names[LIBC_FUNCTION_COUNT] = LIBC_FUNCTIONS;
static void *const substitutes[LIBC_FUNCTION_COUNT] = {
    task_mmap,    task_mmap,  task_munmap, task_mremap,   task_brk,        task_sbrk,
    task_syscall, task_shmat, task_exit,   task_readlink, task_readlinkat, task_execve,
};

/* Write the jumps into pages of our own, all between two calls of mprotect: the functions lie in one
 * object's text.  1, or 0 when it could not be done, and nothing was written (PR_SET_MDWE forbids it, or
 * SELinux). */
static int write_jumps(const uintptr_t functions[], uintptr_t low, uintptr_t high)
{
    size_t bytes = align_up(high, ARCH_PAGE) - low;

    if (sys3(SYS_mprotect, (long)low, (long)bytes, PROTECTION_RWX) < 0)
        return 0;
    for (size_t i = 0; i < LIBC_FUNCTION_COUNT; i++)
        if (functions[i])
            arch_write_jump((uint8_t *)functions[i], (uintptr_t)substitutes[i]);
    sys3(SYS_mprotect, (long)low, (long)bytes, PROTECTION_RX);
    return 1;
}

/* Have what stands in for them in the place of libc's functions: whether that is so. */
static int patch_libc(void)
{
    uintptr_t functions[LIBC_FUNCTION_COUNT], low = UINTPTR_MAX, high = 0;

    if (!symbols_of_libc(&task_libc))
        return 0;
    for (size_t i = 0; i < LIBC_FUNCTION_COUNT; i++) {
        uintptr_t at = functions[i] = symbols_find(&task_libc, names[i], ARCH_JUMP_BYTES);
        if (!at && i < NEEDED)
            return 0;
        if (!at)
            continue;
        low = at < low ? at : low;
        high = at + ARCH_JUMP_BYTES > high ? at + ARCH_JUMP_BYTES : high;
    }
    return task_map_libc_pages(functions, substitutes) ||
           write_jumps(functions, low & -ARCH_PAGE, high);
}

struct task_block *task_find_block(void)
{
    struct task_block *found = (struct task_block *)getauxval(SHARED_AUXV_TYPE);

    return found && found->magic == SHARED_MAGIC && found->abi_version == AIOPIP_ABI_VERSION ? found
                                                                                             : NULL;
}

__attribute__((constructor)) static void enter_task(void)
{
    task_block = task_find_block();
    if (!task_block)
        return;
    int patched = patch_libc();
    /* Where ld.so's own calls do not go through the ledger, we do not lie in the window. */
    int tracked = patched && (uintptr_t)enter_task - task_block->window_start <
                                 task_block->window_end - task_block->window_start;

    /* musl's malloc moves the break by system calls of its own: there the limit must stay. */
    if (patched && gnu_get_libc_version)
        sys4(SYS_prlimit64, 0, RESOURCE_DATA, (long)(uintptr_t)&task_block->start.data_limit, 0);
    /* libc knows its environment from its own constructor on: then it is too late. */
    if (tracked && task_block->start.warm && &environ && !environ)
        task_capture(task_block);
    atomic_store(&task_block->slot->loaded, tracked ? TASK_LOADED_TRACKED : TASK_LOADED_UNTRACKED);
    if (shared_loads_wanted(task_block->control))
        shared_wake_spawner(task_block->control);
}
