/* SPDX-License-Identifier: BSD-2-Clause
 *
 * own_program.c: /proc/self/exe is the task's own program.
 *
 * To the kernel a memory has one program, and that of a task is its root's.  So a path that asks for
 * the program of this process is replaced by the program's own before the kernel sees it.  Of libc's
 * functions those that make a mere system call are overwritten, as libc's own callers (realpath, execv,
 * posix_spawn) go to them, too.  Those that open files are points of cancellation, and more: libc's is
 * called behind this one.
 *
 * A child that has not exec'ed runs this as well, and has the same program.
 */
#include <errno.h>

#include "task.h"

#define PUBLIC __attribute__((visibility("default")))

extern int *__errno_location(void);

static long result_of(long result)
{
    if ((unsigned long)result <= -4096UL)
        return result;
    *__errno_location() = (int)-result;
    return -1;
}

/* ---- The path --------------------------------------------------------------------------------- */

/* What follows a prefix, or NULL. */
static const char *behind(const char *text, const char *prefix)
{
    for (; *prefix; prefix++, text++)
        if (*text != *prefix)
            return NULL;
    return text;
}

/* What follows the number of this process, or of the task that it is a child of. */
static const char *behind_own_number(const char *text)
{
    long number = 0;

    if (*text < '1' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9' && number < INT32_MAX; text++)
        number = 10 * number + (*text - '0');
    return number == sys0(SYS_getpid) || number == atomic_load(&task_block->pid) ? text : NULL;
}

const char *task_own_program(const char *path)
{
    const char *name = path ? behind(path, "/proc/") : NULL, *rest;

    if (!name || !task_block)
        return NULL;
    if (!(rest = behind(name, "self/")) && !(rest = behind(name, "thread-self/")) &&
        (rest = behind_own_number(name)))
        rest = behind(rest, "/");
    rest = rest ? behind(rest, "exe") : NULL;
    return rest && !*rest ? task_block->start.executable : NULL;
}

static const char *real(const char *path)
{
    const char *own = task_own_program(path);

    return own ? own : path;
}

/* ---- Functions that are overwritten ----------------------------------------------------------- */

/* As much as there is room for, without an end: readlink(2). */
static long copy_link(const char *own, char *into, long room)
{
    long count = 0;

    if (room <= 0)
        return -EINVAL;
    for (; count < room && own[count]; count++)
        into[count] = own[count];
    return count;
}

long task_raw_readlink(long number, long directory, const char *path, char *into, long room)
{
    const char *own = task_own_program(path);

    if (own)
        return copy_link(own, into, room);
    return number == SYS_readlink
               ? sys3(number, (long)(uintptr_t)path, (long)(uintptr_t)into, room)
               : sys4(number, directory, (long)(uintptr_t)path, (long)(uintptr_t)into, room);
}

long task_readlink(const char *path, char *into, size_t room)
{
    return result_of(task_raw_readlink(SYS_readlink, 0, path, into, (long)room));
}

long task_readlinkat(int directory, const char *path, char *into, size_t room)
{
    return result_of(task_raw_readlink(SYS_readlinkat, directory, path, into, (long)room));
}

int task_execve(const char *path, char *const *argv, char *const *envp)
{
    return (int)result_of(sys3(SYS_execve, (long)(uintptr_t)real(path), (long)(uintptr_t)argv,
                               (long)(uintptr_t)envp));
}

/* ---- Functions that are found before libc's --------------------------------------------------- */

/* libc's function of a name, looked for at the first call.  Two threads may find it at once.
 *
 * Not by dlsym, as setuid's is: that takes a lock, which a child by fork may find taken for ever, and open
 * is allowed there.  So a library that the program is linked with, and that wraps open, is passed over;
 * one of LD_PRELOAD comes before us. */
static uintptr_t next_function(_Atomic uintptr_t *found, const char *name)
{
    uintptr_t next = atomic_load_explicit(found, memory_order_relaxed);

    if (next || (!task_libc.start_main && !symbols_of_libc(&task_libc)))
        return next;
    next = symbols_find(&task_libc, name, 1);
    atomic_store_explicit(found, next, memory_order_relaxed);
    return next;
}

/* A function of libc that has no such name there fails as a system call that is not there. */
#define OPENS(name, parameters, result_type, failure, call) \
    PUBLIC result_type name parameters;                     \
    result_type name parameters                             \
    {                                                       \
        static _Atomic uintptr_t found;                     \
        uintptr_t next = next_function(&found, #name);      \
        if (!next) {                                        \
            *__errno_location() = ENOSYS;                   \
            return failure;                                 \
        }                                                   \
        return call;                                        \
    }

typedef int open_function(const char *path, int flags, ...);
typedef int openat_function(int directory, const char *path, int flags, ...);
typedef int open_2_function(const char *path, int flags);
typedef int openat_2_function(int directory, const char *path, int flags);
typedef void *fopen_function(const char *path, const char *mode);

OPENS(open, (const char *path, int flags, unsigned mode), int, -1,
      ((open_function *)next)(real(path), flags, mode))
OPENS(open64, (const char *path, int flags, unsigned mode), int, -1,
      ((open_function *)next)(real(path), flags, mode))
OPENS(openat, (int directory, const char *path, int flags, unsigned mode), int, -1,
      ((openat_function *)next)(directory, real(path), flags, mode))
OPENS(openat64, (int directory, const char *path, int flags, unsigned mode), int, -1,
      ((openat_function *)next)(directory, real(path), flags, mode))
/* With _FORTIFY_SOURCE. */
OPENS(__open_2, (const char *path, int flags), int, -1,
      ((open_2_function *)next)(real(path), flags))
OPENS(__open64_2, (const char *path, int flags), int, -1,
      ((open_2_function *)next)(real(path), flags))
OPENS(__openat_2, (int directory, const char *path, int flags), int, -1,
      ((openat_2_function *)next)(directory, real(path), flags))
OPENS(__openat64_2, (int directory, const char *path, int flags), int, -1,
      ((openat_2_function *)next)(directory, real(path), flags))
OPENS(fopen, (const char *path, const char *mode), void *, NULL,
      ((fopen_function *)next)(real(path), mode))
OPENS(fopen64, (const char *path, const char *mode), void *, NULL,
      ((fopen_function *)next)(real(path), mode))
