"""What a worker does with the calls that are not of the simplest: arrays, and all that fails.

`native/python/serving.c` serves the others, and imports this for the first that it does not: many
workers only ever return nothing, or a number, and are ready sooner without it.
"""

from aiopip._parcel import Parcel, load
from aiopip._pickling import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["dump", "failure", "load_arguments", "unpicklable_result"]


def load_arguments(data: memoryview, table: memoryview, loan: object) -> "Any":
    """A call that refers to memory of its owner's.

    Args:
        data: of its parcel.
        table: likewise.
        loan: what all views of that memory keep alive.
    """
    return load(data, table, lambda *_: loan)


def failure(error: BaseException, own: int = 0) -> Parcel:
    """An exception as what the caller is to raise; see `_remote_errors.pack_error`."""
    from aiopip._remote_errors import pack_error

    return dump(pack_error(error, own))


def unpicklable_result(function: "Any", value: object, error: Exception) -> Parcel:
    """What is raised instead of a result, since `dump` has raised something."""
    from aiopip._remote_errors import pack_unpicklable_result

    return dump(pack_unpicklable_result(function, value, error))
