"""What a worker does with its calls.

A call's arguments lie in the owner's memory and are seen in place.  When the function has returned
and something of the worker's still refers to that memory, the owner is told, and keeps it until it
is told that this has ended, too (`_Loan`).  A result that points to memory of the worker's is kept
here until the owner has given it back; see `native/src/calls.h`.
"""

from _weakref import ref
from posix import _exit, getpid

from aiopip._calls import CALL, FAILED, KEEPS, LENDS, RELEASED, STOP
from aiopip._parcel import Parcel, load
from aiopip._worker import leave, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import dumps
    from typing import Any

    from aiopip._calls import Source
else:
    from aiopip._pickle_core import dumps

_SIMPLE = frozenset({type(None), bool, int, float})
"""Of results of these types nothing can go by reference, nor fail to be pickled."""


class _Loan:
    """What all views of a call's arguments keep alive."""

    __slots__ = ("__weakref__",)


class Worker:
    """One worker, from its start to its end."""

    __slots__ = ("_is_program", "_kept", "_lent", "_limit", "_pid", "_source")

    def __init__(self, source: "Source", limit: int) -> None:
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
        take = self._source.take
        while True:
            taken, number, data, table = take()
            if taken == CALL:
                failed = self._serve(number, data, table)
                calls += 1
                if calls == self._limit:
                    return int(failed and self._is_program)
            elif taken == RELEASED:
                self._lent.pop(number, None)
            elif taken == STOP:
                return 0

    def _serve(self, number: int, data: memoryview, table: memoryview) -> bool:
        """Run one call and hand over what came out; whether it failed."""
        loan = _Loan()
        returned = ref(loan, lambda _: self._returned(number))
        flags, parcel = self._call(data, table, loan)
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

    def _call(self, data: memoryview, table: memoryview, loan: _Loan) -> tuple[int, Parcel]:
        try:
            function, args, kwargs = load(data, table, lambda *_: loan)
            value = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  the caller's, whatever it is
            if isinstance(error, SystemExit) and self._is_program:
                leave(status_of(error.code))
            return FAILED, failure(error)
        try:
            return 0, _dump(value)
        except Exception as error:  # noqa: BLE001  what an object's own reduction raises
            return FAILED, _unpicklable_result(function, value, error)

    def _returned(self, number: int) -> None:
        """Nothing refers to a call's arguments any more; called in any thread."""
        if self._kept.pop(number, None) is not None:
            self._source.give_back(number)


def _dump(value: object) -> Parcel:
    """Pickle a result.

    What all others take is imported for the first of them: two thirds of what serving takes, and
    many workers only ever return nothing, or a number.
    """
    if type(value) in _SIMPLE:
        return Parcel(dumps(value, 5), b"", [])
    from aiopip._pickling import dump

    return dump(value)


def failure(error: BaseException) -> Parcel:
    """An exception as what the caller is to raise."""
    from aiopip._remote_errors import pack_error

    return _dump(pack_error(error))


def _unpicklable_result(function: "Any", value: object, error: Exception) -> Parcel:
    from aiopip._remote_errors import pack_unpicklable_result

    return _dump(pack_unpicklable_result(function, value, error))
