/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pip/pip.h: the C interface of PiP, for programs that run as tasks.
 *
 * All functions return 0 or a positive errno, never -1, and leave outputs untouched on failure;
 * EPERM in a process that is neither a PiP root nor a PiP task (a child made by fork() is neither).
 * NULL out-pointers are allowed.  Any thread of a task may call them; none may be called from a
 * signal handler.
 */
#ifndef PIP_PIP_H
#define PIP_PIP_H

#ifdef __cplusplus
extern "C" {
#endif

#define PIP_API __attribute__((visibility("default")))

#define PIP_PIPID_ROOT (-748)
#define PIP_PIPID_MYSELF (-749)
#define PIP_PIPID_SELF PIP_PIPID_MYSELF
#define PIP_PIPID_ANY (-750)
#define PIP_PIPID_NULL (-751)

/* The longest name of an export, in bytes. */
#define PIP_NAME_MAX 255

/* The caller's PiP ID. */
PIP_API int pip_get_pipid(int *pipid);

/* 1 in a task, else 0. */
PIP_API int pip_isa_task(void);

/* Export an address under a name in the manner of printf (NULL is the empty name).  The name stays
 * until the task ends.  EBUSY: the name is taken; EINVAL: it is longer than PIP_NAME_MAX, or there is
 * a NUL in it (as by "%c"); ENOMEM. */
PIP_API int pip_named_export(void *address, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Import what a task, or the root (PIP_PIPID_ROOT), exported under a name, in C or in Python; blocks
 * until it has.  All memory of the exporter then stays mapped until the caller ends, however long ago
 * the exporter ended itself; an array that Python exported stays its exporter's, withdrawn or not.
 * ERANGE: bad PiP ID; EDEADLK: of oneself, and absent; ECANCELED: the exporter ended without. */
PIP_API int pip_named_import(int pipid, void **address, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same without blocking: EAGAIN when it is not exported yet. */
PIP_API int pip_named_tryimport(int pipid, void **address, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* End the task as exit(3) does. */
PIP_API void pip_exit(int status) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif
