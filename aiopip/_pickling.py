"""Pickling by reference: the codec of pools, whose processes share one address space.

What has memory of its own (NumPy arrays, memoryviews, Arrow's buffers, a `ref`) travels as an
address, all else by pickle's protocol 5.  Nothing here knows of queues or processes: `dump` says
what has to be kept where it is; `_parcel` reads what it makes.

Each call goes through it, in a worker with all but the simplest results.  So it imports nothing but
the C half of `pickle`, which needs a tenth of the whole, and a stream without arrays takes little
longer than `pickle.dumps`.

Thread safety: any thread, and in the midst of each other (a `__reduce__` that dumps).
"""

from _pickle import Pickler, PicklingError
from os import path
from sys import modules

from aiopip._parcel import WORDS, Parcel
from aiopip._reducers import BY_REFERENCE, knows, learn_numpy
from aiopip._references import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _pickle import PickleBuffer
    from typing import Any

    from aiopip._reducers import Table


class Sink(list[bytes]):
    """The file of a pickler, which gets large bytes as they are, and the rest in one piece."""

    __slots__ = ()
    write = list.append

    def joined(self) -> bytes:
        """All that was written."""
        return self[0] if len(self) == 1 else b"".join(self)


def dump(obj: object, table: "Table" = BY_REFERENCE) -> Parcel:
    """Pickle an object, by reference what has memory of its own.

    Functions and classes go by their names; by value, if cloudpickle is installed, those that a
    worker cannot find by a name.

    Args:
        obj: the object.
        table: other reducers than the usual ones.

    Raises:
        Exception: what pickle raised, or cloudpickle where that was tried too.
    """
    lent: list[PickleBuffer] = []
    data = write(obj, table, lent)
    return Parcel(data, _describe(lent) if lent else b"", lent)


def write(obj: object, table: "Table", lent: "list[PickleBuffer] | None") -> bytes:
    """Pickle an object with the reducers of a table.

    Args:
        obj: the object.
        table: `_reducers.BY_REFERENCE`, or `_copying.BY_VALUE`.
        lent: gets the buffers that are left out of the stream; None: none is.
    """
    numpy = modules.get("numpy")
    if numpy is not None and not knows(numpy):
        learn_numpy(numpy)
    sink = Sink()
    pickler = Pickler(sink, 5, True, None if lent is None else lent.append)
    pickler.dispatch_table = table
    try:
        pickler.dump(obj)
    except (PicklingError, AttributeError, TypeError):
        from aiopip._cloudpickling import write_by_value

        by_value = write_by_value(obj, table, lent)
        if by_value is None:
            raise
        return by_value
    data = sink.joined()
    if not main_can_be_imported() and b"__main__" in data:
        from aiopip._cloudpickling import refuse_main, write_by_value

        by_value = write_by_value(obj, table, lent)
        if by_value is not None:
            return by_value
        refuse_main(obj, table)
    return data


def _describe(lent: "list[PickleBuffer]") -> bytes:
    """The table of buffers."""
    table = bytearray(8 * WORDS * len(lent))
    words = memoryview(table).cast("Q")
    at = 0
    for buffer in lent:
        words[at], words[at + 1], words[at + 2] = locate(buffer)
        at += WORDS
    return bytes(table)


def main_can_be_imported() -> bool:
    """Whether a worker can run this program's `__main__` again and find what it defines.

    It cannot in an interactive interpreter or a notebook, of `python -c`, of standard input, nor of
    a package's `__main__.py`, which by custom does its work when it is imported.

    Source: `multiprocessing.spawn.get_preparation_data()`
    """
    main = modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return name != "__main__" and not name.endswith(".__main__")
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return False
    found = _scripts.get(file)
    if found is None:
        # Not by pathlib, which takes 5 ms to import.
        name = path.splitext(path.basename(file))[0]  # noqa: PTH119, PTH122
        found = name != "ipython" and path.isfile(file)  # noqa: PTH113
        _scripts[file] = found
    return found


_scripts: dict[str, bool] = {}
"""Which files were seen to be scripts: asked with every call, and found out once."""


def name_unpicklable(
    function: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]", error: BaseException
) -> Exception:
    """The error that says which part of a call cannot be pickled; its caller raises it.

    Args:
        function: what was to be called.
        args: with what.
        kwargs: and what by name.
        error: what `dump` raised, to be the `__cause__`.
    """
    from aiopip._unpicklable import find

    return find(function, args, kwargs, error)
