"""What no name leads to, as lambdas and what an interactive interpreter defines: by cloudpickle.

Imported when a plain pickler has failed, or when `__main__` cannot be imported by others.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import ChainMap
from pickle import PickleBuffer, Pickler, PicklingError
from types import FunctionType
from typing import TYPE_CHECKING, Any

from aiopip._pickling import Sink, main_can_be_imported

if TYPE_CHECKING:
    from aiopip._reducers import Table

_made: dict[type, type] = {}
"""The subclass of cloudpickle's pickler; by that, since a module can be imported anew."""


MODULE_OR_CLOUDPICKLE = "define it at the top of a module, or install cloudpickle"
"""What can be done about a function or class that has no name elsewhere."""


class MainNotImportableError(PicklingError):
    """A function or class has a name in a `__main__` that no worker has."""

    def __init__(self, name: str) -> None:
        """Take its name."""
        super().__init__(f"{name!r} is defined in a __main__ that workers cannot import")

    def __str__(self) -> str:
        return f"{self.args[0]}; {MODULE_OR_CLOUDPICKLE}"


def cloudpickle() -> Any | None:
    """The module, or joblib's own copy where joblib is used; None when it is not installed."""
    names = ["cloudpickle"]
    if "joblib" in sys.modules:
        names.append("joblib.externals.cloudpickle")
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def write_by_value(obj: object, table: Table, lent: list[PickleBuffer] | None) -> bytes | None:
    """Pickle an object, and functions and classes that have no name by value.

    Args:
        obj: the object.
        table: the reducers of other things, which go before cloudpickle's.
        lent: as of `_pickling.write`; what a pickler that failed has left there goes.

    Returns:
        The stream, or None when there is no cloudpickle.
    """
    module = cloudpickle()
    if module is None:
        return None
    if lent is not None:
        lent.clear()
    base = module.Pickler
    if base not in _made:
        _made[base] = _subclass(base)
    sink = Sink()
    pickler = _made[base](sink, table, None if lent is None else lent.append)
    pickler.dump(obj)
    return sink.joined()


def _subclass(base: Any) -> type:
    class CloudPickler(base):  # type: ignore[misc]  # a class that is known at run time only
        def __init__(self, sink: Sink, table: Table, callback: Any) -> None:
            # Before the constructor, which looks it up.
            self.dispatch_table = ChainMap(dict(table), base.dispatch_table)
            self._imports_main = main_can_be_imported()
            super().__init__(sink, 5, callback)

        def reducer_override(self, obj: Any) -> Any:
            # cloudpickle copies all of `__main__`.  What a worker finds there by its name goes by
            # that, as it does without cloudpickle: one class must not become two.
            if self._imports_main and _is_of_main(obj) and _is_found(obj):
                return obj.__qualname__
            return super().reducer_override(obj)

    return CloudPickler


def refuse_main(obj: object, table: Table) -> None:
    """Refuse a function or class of `__main__`, which a worker would not find.

    Raises:
        MainNotImportableError: one is in the object.
    """
    pickler = _RefusingPickler(Sink(), 5, buffer_callback=lambda _: None)
    pickler.dispatch_table = table
    pickler.dump(obj)


class _RefusingPickler(Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if _is_of_main(obj):
            raise MainNotImportableError(obj.__qualname__)
        return NotImplemented


def _is_of_main(obj: object) -> bool:
    return isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__"


def _is_found(obj: Any) -> bool:
    """Whether its name leads to it."""
    found: Any = sys.modules.get("__main__")
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj
