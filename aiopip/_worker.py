"""What an interpreter runs that is a worker of a pool, or a task of one function.

It is started as `python -c "...; from aiopip._worker import main; main(...)"`, and is ready as soon
as this is imported, so it imports next to nothing.

A call's arguments lie in the owner's memory and are seen in place.  When the function has returned
and something of the worker's still refers to that memory, the owner is told, and keeps it until it
is told that this has ended, too (`_Loan`).  A result that points to memory of the worker's is kept
here until the owner has given it back; see `native/src/calls.h`.
"""

from __future__ import annotations

import sys
from _weakref import ref
from posix import _exit, getpid

from aiopip._ffi_worker import CALL, FAILED, KEEPS, LENDS, RELEASED, STOP, Source, memory_at
from aiopip._pickling import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopip._pickling import Parcel


class _Loan:
    """What all views of a call's arguments keep alive."""

    __slots__ = ("__weakref__",)


class Worker:
    """One worker, from its start to its end."""

    __slots__ = ("_is_program", "_kept", "_lent", "_limit", "_pid", "_source")

    def __init__(self, source: Source, limit: int) -> None:
        """Take where its calls come from.

        Args:
            source: the queue.
            limit: how many calls it runs; 0 for any number; -1 for one, which is a program: that
                may end by SystemExit.
        """
        self._source = source
        self._limit = abs(limit)
        self._is_program = limit < 0
        self._pid = getpid()
        self._lent: dict[int, Parcel] = {}
        """Results whose memory the owner has."""
        self._kept: dict[int, ref[_Loan]] = {}
        """Arguments to whose memory something here refers, though their calls have ended."""

    def run(self) -> int:
        """Serve until the owner says that it is enough, or the limit is reached.

        Returns:
            The exit status: of a program that has raised something, 1.
        """
        calls, failed = 0, False
        while True:
            taken = self._source.take()
            if taken == CALL:
                failed = self._serve(self._source.number)
                calls += 1
                if calls == self._limit:
                    return int(failed and self._is_program)
            elif taken == RELEASED:
                self._lent.pop(self._source.number, None)
            elif taken == STOP:
                return 0

    def _serve(self, number: int) -> bool:
        """Run one call and hand over what came out; whether it failed."""
        loan = _Loan()
        returned = ref(loan, lambda _: self._returned(number))
        flags, parcel = self._call(loan)
        if getpid() != self._pid:
            _exit(0)  # the function has forked, and its child has come back: it is no worker
        del loan
        self._kept[number] = returned
        if returned() is None:
            self._kept.pop(number, None)  # if another thread has not just done that
        else:
            flags |= KEEPS
        if parcel.keepers:
            flags |= LENDS
        if self._source.finish(number, flags, parcel.data, parcel.table):
            self._lent[number] = parcel
        return bool(flags & FAILED)

    def _call(self, loan: _Loan) -> tuple[int, Parcel]:
        source = self._source
        try:
            function, args, kwargs = load(source.data, source.table, lambda *_: loan)
            value = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  the caller's, whatever it is
            if isinstance(error, SystemExit) and self._is_program:
                leave(_status_of(error.code))
            return FAILED, _failure(error)
        try:
            return 0, dump(value)
        except Exception as error:  # noqa: BLE001  what an object's own reduction raises
            return FAILED, _unpicklable_result(function, value, error)

    def _returned(self, number: int) -> None:
        """Nothing refers to a call's arguments any more; called in any thread."""
        if self._kept.pop(number, None) is not None:
            self._source.give_back(number)


def _failure(error: BaseException) -> Parcel:
    """An exception as what the caller is to raise."""
    from aiopip._remote_errors import pack_error

    return dump(pack_error(error))


def _unpicklable_result(function: Any, value: object, error: Exception) -> Parcel:
    from aiopip._remote_errors import pack_unpicklable_result

    return dump(pack_unpicklable_result(function, value, error))


def main(
    address: int,
    worker: int,
    event_fd: int,
    setup: tuple[int, int],
    limit: int,
    owner: tuple[int, int],
) -> None:
    """Be a worker, to the end of the process.

    Args:
        address: where the queue is.
        worker: which worker of it this is.
        event_fd: the owner's eventfd.
        setup: address and size of a pickled `_interpreter.Setup`: what to do before the first call.
        limit: how many calls to run; see `Worker`.
        owner: PiP ID and generation of the owner; see `Source`.
    """
    from _signal import SIGINT, signal  # type: ignore[import-not-found]

    # Ctrl-C is for the root, which ends its workers.  No SIG_IGN: what they start would inherit it.
    signal(SIGINT, lambda *_: None)
    source = Source(address, worker, event_fd, owner)
    status = 1
    try:
        prepare(memory_at(*setup))
    except BaseException as error:  # noqa: BLE001  told to who has started it
        parcel = _failure(error)
        source.ready(FAILED, parcel.data, parcel.table)
    else:
        source.ready(0, b"", b"")
        serving = Worker(source, limit)
        status = serving.run()
    # Here `serving` lives on, and so do the results that it has lent, to the end of the process:
    # freed, their memory would be unmapped under the owner's views.
    leave(status)


def prepare(setup: memoryview) -> None:
    """Become what a process is that multiprocessing has spawned, and run the initializer."""
    argv, main_module, authkey, initializer = load(setup, b"", lambda *_: None)
    sys.argv = argv
    if main_module is not None:
        from aiopip._main_module import import_main

        import_main(*main_module)
    if authkey is not None:
        from multiprocessing import current_process

        current_process().authkey = authkey
    if initializer is not None:
        data, table = initializer
        function, args = load(data, table, lambda *_: None)
        function(*args)


def leave(status: int) -> None:
    """End the process, without the interpreter's own end: it would free memory that others see."""
    import atexit
    import os

    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # noqa: SLF001  as multiprocessing's workers do
        atexit._run_exitfuncs()  # noqa: SLF001  likewise
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        os._exit(status)


def _status_of(code: Any) -> int:
    """The exit status of a program that raises SystemExit."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)  # noqa: T201  as the interpreter does
    return 1


def _flush(stream: Any) -> None:
    try:  # noqa: SIM105  contextlib is not loaded here
        stream.flush()
    except (AttributeError, OSError, ValueError):
        pass  # closed, or nobody reads it: nothing is left to be said
