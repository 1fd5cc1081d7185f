/* SPDX-License-Identifier: BSD-2-Clause
 *
 * serving.c: what a worker does with its calls.
 *
 * A call's arguments lie in the owner's memory and are seen in place.  When the function has returned
 * and something of the worker's still refers to that memory, the owner is told, and keeps it until it
 * is told that this has ended, too (struct loan).  A result that points to memory of the worker's is
 * kept here until the owner has given it back; see native/src/calls.h.
 *
 * What most calls are made of is served here.  For the rest, arrays and all that fails, there is
 * aiopip/_serving.py, imported when it is needed: an interpreter that never needs it is ready sooner,
 * and smaller.
 */
#include "source.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <unistd.h>

#define PICKLE_PROTOCOL 5
#define SHORT (16L << 10) /* what is longer _serving need not copy once more */

struct server {
    struct source *source;
    PyObject *loads, *dumps; /* of _pickle */
    PyObject *rest;          /* aiopip._serving, from the first call on that needs it */
    PyObject *loan_type;
    PyObject *nothing;   /* b"" */
    PyObject *when_idle; /* a function */
    pid_t pid;
    bool is_program;
};

/* What came out of a call. */
struct outcome {
    PyObject *data, *table; /* bytes */
    PyObject *keeper;       /* what they are of, and what keeps the memory that the table names */
    uint32_t flags;
};

/* The exception that was raised, and is no longer. */
static PyObject *take_raised(void)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(traceback);
    Py_DECREF(type);
    return error;
}

/* Raise it again, as it is: -1. */
static int raise_again(PyObject *error)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
    return -1;
}

/* ---- Loans ------------------------------------------------------------------------------------ */

/* What all views of a call's arguments keep alive. */
struct loan {
    PyObject object;
    struct source *source;
    uint32_t number;
    bool *has_ended; /* as long as the call runs; then NULL, and the owner was told of us */
};

/* In any thread, with the lock of the interpreter.  An owner that is gone needs nothing back. */
static void loan_free(PyObject *object)
{
    struct loan *self = (struct loan *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (self->has_ended)
        *self->has_ended = true;
    else
        aiopip_calls_return(self->source->calls, self->source->worker, self->number);
    Py_DECREF((PyObject *)self->source);
    release(object);
    Py_DECREF((PyObject *)type);
}

static PyType_Slot loan_slots[] = {
    {Py_tp_doc, "What all views of a call's arguments keep alive."},
    {Py_tp_dealloc, loan_free},
    {0, NULL},
};

static PyType_Spec loan_spec = {
    .name = "aiopip._calls.Loan",
    .basicsize = sizeof(struct loan),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = loan_slots,
};

static struct loan *make_loan(struct server *server, uint32_t number, bool *has_ended)
{
    PyTypeObject *type = (PyTypeObject *)server->loan_type;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct loan *loan = (struct loan *)allocate(type, 0);

    if (!loan)
        return NULL;
    loan->source = (struct source *)Py_NewRef((PyObject *)server->source);
    loan->number = number;
    loan->has_ended = has_ended;
    return loan;
}

/* The call is over: whether something still refers to its arguments, of whose end the owner will be told.
 * The lock of the interpreter is held from here on until the owner was told of the call's, so that it
 * comes to know of both in this order. */
static bool end_loan(struct loan *loan, const bool *has_ended)
{
    if (!loan)
        return false;
    Py_DECREF((PyObject *)loan);
    if (*has_ended)
        return false;
    loan->has_ended = NULL;
    return true;
}

/* ---- What pickle is not needed for ------------------------------------------------------------ */

/* A text, which is taken over, with something in the place of a character. */
static PyObject *escaped(PyObject *text, int character, const char *escape)
{
    PyObject *result = text ? PyObject_CallMethod(text, "replace", "Cs", character, escape) : NULL;

    Py_XDECREF(text);
    return result;
}

/* The line in which pickle's oldest protocol has a text, which is taken over. */
static PyObject *pickled_text(PyObject *text)
{
    PyObject *line = PyBytes_FromString("V");

    text = escaped(text, '\\', "\\u005c");
    text = escaped(text, '\n', "\\u000a");
    text = escaped(text, 0, "\\u0000");
    PyObject *encoded = text ? PyUnicode_AsRawUnicodeEscapeString(text) : NULL;
    Py_XDECREF(text);
    PyBytes_Concat(&line, encoded);
    Py_XDECREF(encoded);
    PyBytes_ConcatAndDel(&line, PyBytes_FromString("\n"));
    return line;
}

/* An exception as a `_remote_errors.PackedError`, where what packs it cannot be imported; NULL only for want
 * of memory. */
static PyObject *refusal(PyObject *error)
{
    static const char unknown[] = "(NVImportError\nVno text\nVsee the worker's stderr\nt.";
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(error), "__name__");
    PyObject *text = PyObject_CallFunction((PyObject *)&PyUnicode_Type, "O", error);
    PyObject *result = PyBytes_FromString("(N");

    PyBytes_ConcatAndDel(&result, pickled_text(name));
    PyBytes_ConcatAndDel(&result, pickled_text(text));
    PyBytes_ConcatAndDel(&result, PyBytes_FromString("Vsee the worker's stderr\nt."));
    if (result)
        return result;
    PyErr_Clear();
    return PyBytes_FromString(unknown);
}

/* The traceback on stderr, as of what nobody catches. */
static void show(PyObject *error)
{
    PyObject *hook = PySys_GetObject("excepthook"), *traceback = PyException_GetTraceback(error);
    PyObject *shown = hook ? PyObject_CallFunctionObjArgs(hook, Py_TYPE(error), error,
                                                          traceback ? traceback : Py_None, NULL)
                           : NULL;

    if (!shown)
        PyErr_Clear(); /* nor is there anybody who could be told */
    Py_XDECREF(shown);
    Py_XDECREF(traceback);
}

/* ---- One call --------------------------------------------------------------------------------- */

/* Whether aiopip._serving is there.  A function may have seen to it that nothing can be imported any more. */
static bool has_rest(struct server *server)
{
    if (!server->rest)
        server->rest = PyImport_ImportModule("aiopip._serving");
    return server->rest != NULL;
}

/* A function of it. */
static PyObject *rest(struct server *server, const char *name)
{
    return has_rest(server) ? PyObject_GetAttrString(server->rest, name) : NULL;
}

/* Fill in an outcome from a Parcel, which is taken over; NULL: what has made it has raised something. */
static int take_parcel(PyObject *parcel, uint32_t flags, struct outcome *outcome)
{
    PyObject *keepers = parcel ? PyObject_GetAttrString(parcel, "keepers") : NULL;
    int lends = keepers ? PyObject_IsTrue(keepers) : -1;

    Py_XDECREF(keepers);
    outcome->keeper = parcel;
    outcome->flags = lends > 0 ? flags | AIOPIP_RESULT_LENDS : flags;
    if (lends >= 0)
        outcome->data = PyObject_GetAttrString(parcel, "data");
    if (outcome->data)
        outcome->table = PyObject_GetAttrString(parcel, "table");
    return outcome->table ? 0 : -1;
}

static PyObject *read_request(struct server *server, const struct aiopip_parcel *request,
                              struct loan *loan)
{
    PyObject *data = source_view(request->data, request->data_bytes), *table, *load, *read = NULL;

    if (data && !loan)
        read = PyObject_CallFunctionObjArgs(server->loads, data, NULL);
    else if (data) {
        table = source_view(request->table, request->table_bytes);
        load = table ? rest(server, "load_arguments") : NULL;
        if (load)
            read = PyObject_CallFunctionObjArgs(load, data, table, loan, NULL);
        Py_XDECREF(load);
        Py_XDECREF(table);
    }
    Py_XDECREF(data);
    return read;
}

/* Call what a request says: the result, or NULL; and the function, as far as it came to that. */
static PyObject *call(struct server *server, const struct aiopip_parcel *parcel, struct loan *loan,
                      PyObject **function)
{
    PyObject *request = read_request(server, parcel, loan), *args, *kwargs, *value;

    if (!request)
        return NULL;
    if (!PyArg_ParseTuple(request, "OO!O!:call", function, &PyTuple_Type, &args, &PyDict_Type,
                          &kwargs)) {
        *function = NULL;
        Py_DECREF(request);
        return NULL;
    }
    Py_INCREF(*function);
    value = PyObject_Call(*function, args, kwargs);
    if (value) {
        Py_DECREF(request);
        return value;
    }
    PyObject *error = take_raised(); /* what goes with the arguments runs code of its own */
    Py_DECREF(request);
    raise_again(error);
    return NULL;
}

/* Of results of these types nothing can go by reference, nor fail to be pickled. */
static bool is_simple(PyObject *value)
{
    return value == Py_None || value == Py_True || value == Py_False || PyLong_CheckExact(value) ||
           PyFloat_CheckExact(value) ||
           (PyUnicode_CheckExact(value) && PyUnicode_GetLength(value) < SHORT) ||
           (PyBytes_CheckExact(value) && PyBytes_Size(value) < SHORT);
}

static int pack(struct server *server, PyObject *value, struct outcome *outcome)
{
    if (!is_simple(value)) {
        PyObject *dump = rest(server, "dump");
        PyObject *parcel = dump ? PyObject_CallFunctionObjArgs(dump, value, NULL) : NULL;
        Py_XDECREF(dump);
        return take_parcel(parcel, 0, outcome);
    }
    outcome->data = PyObject_CallFunction(server->dumps, "Oi", value, PICKLE_PROTOCOL);
    outcome->table = Py_NewRef(server->nothing);
    return outcome->data ? 0 : -1;
}

/* Pack an exception, which is taken over, without aiopip._serving, since that could not be imported. */
static int pack_plainly(struct server *server, PyObject *error, struct outcome *outcome)
{
    PyErr_Clear();
    show(error);
    outcome->data = refusal(error);
    outcome->table = Py_NewRef(server->nothing);
    outcome->flags = AIOPIP_RESULT_FAILED;
    Py_DECREF(error);
    return outcome->data ? 0 : -1;
}

/* Pack the exception that a call has raised, which is taken over. */
static int pack_error(struct server *server, PyObject *error, struct outcome *outcome)
{
    if (!has_rest(server))
        return pack_plainly(server, error, outcome);
    PyObject *failure = rest(server, "failure");
    PyObject *parcel = failure ? PyObject_CallFunctionObjArgs(failure, error, NULL) : NULL;
    Py_XDECREF(failure);
    Py_DECREF(error);
    return take_parcel(parcel, AIOPIP_RESULT_FAILED, outcome);
}

/* Pack what is raised instead of a result that has failed to be packed. */
static int pack_unpicklable(struct server *server, PyObject *function, PyObject *value,
                            struct outcome *outcome)
{
    PyObject *error = take_raised();

    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception))
        return raise_again(error);
    if (!has_rest(server))
        return pack_plainly(server, error, outcome);
    PyObject *unpicklable = rest(server, "unpicklable_result");
    PyObject *parcel = unpicklable
                           ? PyObject_CallFunctionObjArgs(unpicklable, function, value, error, NULL)
                           : NULL;
    Py_XDECREF(unpicklable);
    Py_DECREF(error);
    return take_parcel(parcel, AIOPIP_RESULT_FAILED, outcome);
}

/* Run a call and pack what comes of it.  -1: that has failed, or a program has raised SystemExit. */
static int run(struct server *server, const struct aiopip_parcel *request, struct loan *loan,
               struct outcome *outcome)
{
    PyObject *function = NULL, *value = call(server, request, loan, &function);
    PyObject *error = value ? NULL : take_raised();
    int result;

    if (error && server->is_program && PyErr_GivenExceptionMatches(error, PyExc_SystemExit)) {
        Py_XDECREF(function);
        return raise_again(error);
    }
    if (error)
        result = pack_error(server, error, outcome);
    else if ((result = pack(server, value, outcome)) < 0) {
        Py_CLEAR(outcome->data);
        Py_CLEAR(outcome->table);
        Py_CLEAR(outcome->keeper);
        result = pack_unpicklable(server, function, value, outcome);
    }
    if (getpid() != server->pid)
        _exit(0); /* something has forked, and its child has come back: it is no worker */
    Py_XDECREF(value);
    Py_XDECREF(function);
    return result;
}

/* Hand over what came out, and keep what the owner sees in place.  The lock of the interpreter is not given
 * up: the write of 8 bytes does not block. */
static int hand_over(struct source *source, uint32_t number, const struct outcome *outcome)
{
    struct aiopip_parcel result;

    if (source_locate(outcome->data, outcome->table, &result) < 0)
        return -1;
    int lent = aiopip_calls_finish(source->calls, source->worker, number, outcome->flags, &result);
    if (lent <= 0)
        return lent < 0 ? (source_failed(lent, "handing over a result failed"), -1) : 0;
    PyObject *key = PyLong_FromUnsignedLong(number);
    PyObject *keeper = outcome->keeper ? outcome->keeper : outcome->data;
    int kept = key ? PyDict_SetItem(source->lent, key, keeper) : -1;
    Py_XDECREF(key);
    return kept;
}

/* Run one call and hand over what came out: whether it failed, or -1. */
static int serve_call(struct server *server, uint32_t number, const struct aiopip_parcel *request)
{
    struct outcome outcome = {0};
    struct loan *loan = NULL;
    bool has_ended = false;

    if (request->table_bytes && !(loan = make_loan(server, number, &has_ended)))
        return -1;
    int result = run(server, request, loan, &outcome);
    if (end_loan(loan, &has_ended))
        outcome.flags |= AIOPIP_RESULT_KEEPS;
    if (result == 0)
        result = hand_over(server->source, number, &outcome);
    Py_XDECREF(outcome.data);
    Py_XDECREF(outcome.table);
    Py_XDECREF(outcome.keeper);
    return result < 0 ? -1 : (outcome.flags & AIOPIP_RESULT_FAILED) != 0;
}

/* ---- All of them ------------------------------------------------------------------------------ */

/* No call has come for a while: what malloc has kept of what was freed goes back to the system. */
static int give_back(struct server *server)
{
    PyObject *done = PyObject_CallFunctionObjArgs(server->when_idle, NULL);

    if (!done)
        return -1;
    Py_DECREF(done);
    PyThreadState *state = PyEval_SaveThread();
    malloc_trim(0);
    PyEval_RestoreThread(state);
    return 0;
}

/* Wait for something to do: enum aiopip_take; or -1, and a signal's handler has raised something. */
static int wait_for(struct server *server, uint32_t *number, struct aiopip_parcel *request)
{
    struct source *source = server->source;
    int taken;

    do {
        if (PyErr_CheckSignals() < 0) /* while there is no call that could be lost */
            return -1;
        PyThreadState *state = PyEval_SaveThread();
        taken = aiopip_calls_take(source->calls, source->worker, number, request);
        PyEval_RestoreThread(state);
        if (taken == AIOPIP_TAKE_IDLE && give_back(server) < 0)
            return -1;
    } while (taken == -EINTR || taken == AIOPIP_TAKE_IDLE);
    if (taken >= 0)
        return taken;
    source_failed(taken, "waiting for a call failed");
    return -1;
}

static int forget_lent(struct source *source, uint32_t number)
{
    PyObject *key = PyLong_FromUnsignedLong(number);
    int forgotten = key ? PyDict_DelItem(source->lent, key) : -1;

    Py_XDECREF(key);
    return forgotten;
}

static long serve_all(struct server *server, long limit)
{
    struct aiopip_parcel request;
    uint32_t number;
    long calls = 0;

    for (;;)
        switch (wait_for(server, &number, &request)) {
        case AIOPIP_TAKE_CALL: {
            int failed = serve_call(server, number, &request);
            if (failed < 0)
                return -1;
            if (++calls == limit)
                return failed && server->is_program;
            break;
        }
        case AIOPIP_TAKE_RELEASED:
            if (forget_lent(server->source, number) < 0)
                return -1;
            break;
        case AIOPIP_TAKE_STOP:
            return 0;
        default:
            return -1;
        }
}

/* ---- A worker without pickle ------------------------------------------------------------------ */

/* Fail all calls, since what serves them could not be imported, until we are told to end: were we to end by
 * ourselves, another worker would take our place.  The traceback goes to stderr. */
static long refuse_all(struct server *server)
{
    struct aiopip_parcel request;
    PyObject *error = take_raised(), *data = refusal(error);
    uint32_t number;
    int taken;

    show(error);
    Py_DECREF(error);
    while (data && (taken = wait_for(server, &number, &request)) >= 0) {
        struct outcome outcome = {
            .data = data, .table = server->nothing, .flags = AIOPIP_RESULT_FAILED};
        if (taken == AIOPIP_TAKE_STOP)
            return 1;
        if (taken == AIOPIP_TAKE_CALL && hand_over(server->source, number, &outcome) < 0)
            break;
    }
    return -1;
}

long source_serve(struct source *self, long limit, PyObject *import_pickle, PyObject *when_idle)
{
    struct server server = {
        .source = self, .when_idle = when_idle, .pid = getpid(), .is_program = limit < 0};

    server.nothing = PyBytes_FromStringAndSize(NULL, 0);
    server.loan_type = PyType_FromSpec(&loan_spec);
    if (!server.nothing || !server.loan_type)
        return -1;
    PyObject *pickle = PyObject_CallFunctionObjArgs(import_pickle, NULL);
    server.loads = pickle ? PyObject_GetAttrString(pickle, "loads") : NULL;
    server.dumps = server.loads ? PyObject_GetAttrString(pickle, "dumps") : NULL;
    Py_XDECREF(pickle);
    return server.dumps ? serve_all(&server, limit < 0 ? -limit : limit) : refuse_all(&server);
}
