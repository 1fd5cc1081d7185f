/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls.c: aiopip._calls, a worker's side of a pool's queue for Python; aiopip_calls.h documents the
 * calls, aiopip/_calls.pyi the module.
 */
#include "source.h"

#include <errno.h>
#include <stdbool.h>

#include "peer.h"

#ifndef PyBUF_READ
#define PyBUF_READ 0x100 /* which the headers of 3.10 forget */
#endif

/* With an export, the memory of a task that has ended waits until its end was seen. */
#define EXPORT_NAME "aiopip.worker"

PyObject *source_failed(int error, const char *doing)
{
    PyObject *arguments = Py_BuildValue("(is)", -error, doing);

    if (arguments) {
        PyErr_SetObject(PyExc_OSError, arguments); /* of the class that belongs to the errno */
        Py_DECREF(arguments);
    }
    return NULL;
}

PyObject *source_view(uintptr_t address, uint64_t bytes)
{
    static char nothing[1];

    return PyMemoryView_FromMemory(bytes ? (char *)address : nothing, (Py_ssize_t)bytes,
                                   PyBUF_READ);
}

int source_locate(PyObject *data, PyObject *table, struct aiopip_parcel *parcel)
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
        return source_failed(error, "joining the root failed") != NULL;
    error = peer_export(self, EXPORT_NAME, sizeof EXPORT_NAME - 1, &nothing, &export);
    if (error < 0)
        return source_failed(error, "exporting failed") != NULL;
    if (pipid == AIOPIP_PIPID_ROOT)
        return true; /* whose memory stays */
    int64_t hold = peer_hold_owner(self, address, 1, &owner, &import.generation);
    if (hold < 0)
        return source_failed((int)hold, "holding the owner's memory failed") != NULL;
    import.hold = (uint32_t)hold;
    peer_settle(self, &import);
    /* It may have been killed meanwhile, and the memory there may be another's by now: one that runs
     * the same program may have its own queue at the same place. */
    if (import.generation != generation)
        return source_failed(-ECANCELED, "the owner of the pool has ended") != NULL;
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
        return source_failed(result, "joining the pool failed");
    PyObject *lent = PyDict_New();
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct source *self = lent ? (struct source *)allocate(type, 0) : NULL;
    if (!self) {
        Py_XDECREF(lent);
        return NULL;
    }
    self->calls = calls;
    self->worker = worker;
    self->lent = lent;
    return (PyObject *)self;
}

static void source_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    Py_DECREF(((struct source *)self)->lent);
    release(self);
    Py_DECREF((PyObject *)type);
}

static PyObject *source_ready(PyObject *object, PyObject *args)
{
    struct source *self = (struct source *)object;
    PyObject *data = NULL, *table = NULL;
    struct aiopip_parcel result = {0};

    if (!PyArg_ParseTuple(args, "|OO:ready", &data, &table) ||
        (table && source_locate(data, table, &result) < 0))
        return NULL;
    uint32_t flags = table ? AIOPIP_RESULT_FAILED : 0;
    int told = aiopip_calls_ready(self->calls, self->worker, flags, &result);
    if (told < 0)
        return source_failed(told, "reporting to the pool failed");
    Py_RETURN_NONE;
}

static PyObject *serve(PyObject *self, PyObject *args)
{
    PyObject *import_pickle, *when_idle;
    long limit;

    if (!PyArg_ParseTuple(args, "lOO:serve", &limit, &import_pickle, &when_idle))
        return NULL;
    long status = source_serve((struct source *)self, limit, import_pickle, when_idle);
    return status < 0 ? NULL : PyLong_FromLong(status);
}

/* ---- The module ------------------------------------------------------------------------------- */

static PyMethodDef source_methods[] = {
    {"ready", source_ready, METH_VARARGS, "Say that calls may come, or why they may not."},
    {"serve", serve, METH_VARARGS, "Run calls until it is enough."},
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
    return source_view((uintptr_t)address, bytes);
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
    return result;
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
