/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls.c: aiopip._calls, a worker's side of a pool's queue for Python; aiopip_calls.h documents the
 * calls, aiopip/_calls.pyi the module.
 *
 * Written by hand, where all else goes through cffi: workers start many at once, and to load cffi takes
 * each of them longer than to load the rest of what it needs.  To the stable ABI of Python 3.10.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>

#include "aiopip_calls.h"
#include "peer.h"

#ifndef PyBUF_READ
#define PyBUF_READ 0x100 /* which the headers of 3.10 forget */
#endif

/* With an export, the memory of a task that has ended waits until its end was seen. */
#define EXPORT_NAME "aiopip.worker"

struct source {
    PyObject object;
    aiopip_calls *calls;
    int32_t worker;
};

static PyObject *failed(int error, const char *doing)
{
    PyObject *arguments = Py_BuildValue("(is)", -error, doing);

    if (arguments) {
        PyErr_SetObject(PyExc_OSError, arguments); /* of the class that belongs to the errno */
        Py_DECREF(arguments);
    }
    return NULL;
}

/* ---- A source --------------------------------------------------------------------------------- */

/* Have our memory held when we end, and hold all of the owner's, if it is a task's: to our end, so
 * nothing gives it back.  False: it has raised something. */
static bool keep_memories(uintptr_t address, int32_t pipid, uint64_t generation)
{
    struct aiopip_array nothing = {0};
    struct import import = {.origin = -1};
    uint32_t version, owner;
    uint64_t export;
    int error;

    struct aiopip_peer *self = peer_of_task(&error, &version);
    if (!self)
        return failed(error, "joining the root failed") != NULL;
    error = peer_export(self, EXPORT_NAME, sizeof EXPORT_NAME - 1, &nothing, &export);
    if (error < 0)
        return failed(error, "exporting failed") != NULL;
    if (pipid == AIOPIP_PIPID_ROOT)
        return true; /* whose memory stays */
    int64_t hold = peer_hold_owner(self, address, 1, &owner, &import.generation);
    if (hold < 0)
        return failed((int)hold, "holding the owner's memory failed") != NULL;
    import.hold = (uint32_t)hold;
    peer_settle(self, &import);
    /* It may have been killed meanwhile, and the memory there may be another's by now: one that runs
     * the same program may have its own queue at the same place. */
    if (import.generation != generation)
        return failed(-ECANCELED, "the owner of the pool has ended") != NULL;
    return true;
}

static PyObject *source_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    unsigned long long address, generation;
    int worker, event_fd, pipid;

    if (keywords && PyDict_Size(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Source() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Kii(iK):Source", &address, &worker, &event_fd, &pipid,
                          &generation) ||
        !keep_memories((uintptr_t)address, pipid, generation))
        return NULL;
    aiopip_calls *calls = (aiopip_calls *)(uintptr_t)address;
    int result = aiopip_calls_join(calls, worker, event_fd);
    if (result < 0)
        return failed(result, "joining the pool failed");
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct source *self = (struct source *)allocate(type, 0);
    if (self) {
        self->calls = calls;
        self->worker = worker;
    }
    return (PyObject *)self;
}

static void source_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    release(self);
    Py_DECREF((PyObject *)type);
}

/* Bytes of somebody else's; nothing is kept by the view. */
static PyObject *view(uintptr_t address, uint64_t bytes)
{
    static char nothing[1];

    return PyMemoryView_FromMemory(bytes ? (char *)address : nothing, (Py_ssize_t)bytes,
                                   PyBUF_READ);
}

static PyObject *source_take(PyObject *object, PyObject *Py_UNUSED(nothing))
{
    struct source *self = (struct source *)object;
    struct aiopip_parcel request = {0};
    uint32_t number = 0;
    int taken;

    do {
        PyThreadState *state = PyEval_SaveThread();
        taken = aiopip_calls_take(self->calls, self->worker, &number, &request);
        /* What calls have freed, and malloc has kept, goes back to the system. */
        if (taken == AIOPIP_TAKE_IDLE)
            malloc_trim(0);
        PyEval_RestoreThread(state);
        if ((taken == -EINTR || taken == AIOPIP_TAKE_IDLE) && PyErr_CheckSignals() < 0)
            return NULL;
    } while (taken == -EINTR || taken == AIOPIP_TAKE_IDLE);
    if (taken < 0)
        return failed(taken, "waiting for a call failed");
    if (taken != AIOPIP_TAKE_CALL)
        return Py_BuildValue("iIOO", taken, number, Py_None, Py_None);
    PyObject *data = view(request.data, request.data_bytes);
    PyObject *table = data ? view(request.table, request.table_bytes) : NULL;
    if (!table) {
        Py_XDECREF(data);
        return NULL;
    }
    return Py_BuildValue("iINN", taken, number, data, table);
}

/* Where bytes lie; they have to live as long as that is used. */
static int locate(PyObject *data, PyObject *table, struct aiopip_parcel *parcel)
{
    Py_ssize_t data_bytes, table_bytes;
    char *at_data, *at_table;

    if (PyBytes_AsStringAndSize(data, &at_data, &data_bytes) < 0 ||
        PyBytes_AsStringAndSize(table, &at_table, &table_bytes) < 0)
        return -1;
    *parcel = (struct aiopip_parcel){.data = (uintptr_t)at_data,
                                     .data_bytes = (uint64_t)data_bytes,
                                     .table = (uintptr_t)at_table,
                                     .table_bytes = (uint64_t)table_bytes};
    return 0;
}

static PyObject *source_ready(PyObject *object, PyObject *args)
{
    struct source *self = (struct source *)object;
    struct aiopip_parcel result;
    PyObject *data, *table;
    unsigned int flags;

    if (!PyArg_ParseTuple(args, "IOO:ready", &flags, &data, &table) ||
        locate(data, table, &result) < 0)
        return NULL;
    int told = aiopip_calls_ready(self->calls, self->worker, flags, &result);
    if (told < 0)
        return failed(told, "reporting to the pool failed");
    Py_RETURN_NONE;
}

/* The lock of the interpreter is not given up: the write of 8 bytes does not block. */
static PyObject *source_finish(PyObject *object, PyObject *args)
{
    struct source *self = (struct source *)object;
    struct aiopip_parcel result;
    unsigned int number, flags;
    PyObject *data, *table;

    if (!PyArg_ParseTuple(args, "IIOO:finish", &number, &flags, &data, &table) ||
        locate(data, table, &result) < 0)
        return NULL;
    int lent = aiopip_calls_finish(self->calls, self->worker, number, flags, &result);
    return lent < 0 ? failed(lent, "handing over a result failed") : PyBool_FromLong(lent);
}

/* In any thread, and as what the end of an object calls: an owner that is gone needs nothing back. */
static PyObject *source_give_back(PyObject *object, PyObject *number)
{
    struct source *self = (struct source *)object;
    unsigned long call = PyLong_AsUnsignedLong(number);

    if (PyErr_Occurred())
        return NULL;
    aiopip_calls_return(self->calls, self->worker, (uint32_t)call);
    Py_RETURN_NONE;
}

/* ---- The module ------------------------------------------------------------------------------- */

static PyMethodDef source_methods[] = {
    {"take", source_take, METH_NOARGS, "Wait for something to do."},
    {"ready", source_ready, METH_VARARGS, "Say that calls may come, or why they may not."},
    {"finish", source_finish, METH_VARARGS, "Hand over a result."},
    {"give_back", source_give_back, METH_O, "Say that there are no views of a call's arguments."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot source_slots[] = {
    {Py_tp_doc, "Where a worker has its calls from."},
    {Py_tp_new, source_new},
    {Py_tp_dealloc, source_free},
    {Py_tp_methods, source_methods},
    {0, NULL},
};

static PyType_Spec source_spec = {
    .name = "aiopip._calls.Source",
    .basicsize = sizeof(struct source),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = source_slots,
};

static PyObject *memory_at(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long address, bytes;

    if (!PyArg_ParseTuple(args, "KK:memory_at", &address, &bytes))
        return NULL;
    return view((uintptr_t)address, bytes);
}

static PyMethodDef module_methods[] = {
    {"memory_at", memory_at, METH_VARARGS, "Bytes of the owner's."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&source_spec);
    int result = type ? PyModule_AddObjectRef(module, "Source", type) : -1;

    Py_XDECREF(type);
    if (result < 0 || PyModule_AddIntConstant(module, "CALL", AIOPIP_TAKE_CALL) < 0 ||
        PyModule_AddIntConstant(module, "RELEASED", AIOPIP_TAKE_RELEASED) < 0 ||
        PyModule_AddIntConstant(module, "STOP", AIOPIP_TAKE_STOP) < 0 ||
        PyModule_AddIntConstant(module, "FAILED", AIOPIP_RESULT_FAILED) < 0 ||
        PyModule_AddIntConstant(module, "LENDS", AIOPIP_RESULT_LENDS) < 0 ||
        PyModule_AddIntConstant(module, "KEEPS", AIOPIP_RESULT_KEEPS) < 0)
        return -1;
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "aiopip._calls",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__calls(void);

PyMODINIT_FUNC PyInit__calls(void)
{
    return PyModuleDef_Init(&module);
}
