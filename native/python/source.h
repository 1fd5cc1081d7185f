/* SPDX-License-Identifier: BSD-2-Clause
 *
 * source.h: what the two parts of aiopip._calls share: calls.c, where a worker has its calls from, and
 * serving.c, what it does with them.
 *
 * Written by hand, where all else goes through cffi: workers start many at once, and to load cffi takes
 * each of them longer than to load the rest of what it needs.  To the stable ABI of Python 3.10.
 */
#ifndef SOURCE_H
#define SOURCE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "aiopip_calls.h"

struct source {
    PyObject object;
    aiopip_calls *calls;
    int32_t worker;
    PyObject *lent; /* results whose memory the owner has, by the numbers of their calls */
};

/* Raise an error of a call that has returned -errno: NULL. */
PyObject *source_failed(int error, const char *doing);

/* Bytes of somebody else's, read only; nothing is kept by the view. */
PyObject *source_view(uintptr_t address, uint64_t bytes);

/* Where bytes lie; they have to live as long as that is used.  -1: it has raised something. */
int source_locate(PyObject *data, PyObject *table, struct aiopip_parcel *parcel);

/* Serve calls until the owner says that it is enough, or the limit is reached: the exit status, or -1 and it
 * has raised something.
 *
 *   limit           how many calls; 0 for any number; -1 for one, which is a program: it may end by
 *                   SystemExit, and its status is 1 when it has raised something else
 *   import_pickle   returns `_pickle`; with what it raises all calls fail
 *   when_idle       called when no call has come for a while */
long source_serve(struct source *self, long limit, PyObject *import_pickle, PyObject *when_idle);

#endif
