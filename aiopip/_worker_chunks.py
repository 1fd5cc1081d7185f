"""Several arguments of a map in one call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def run_chunk(function: Callable[..., Any], *columns: Sequence[Any]) -> tuple[list[Any], Any]:
    """Run a function for what stands in each row, in a worker, up to the first that fails.

    Args:
        function: the function.
        columns: for each of its arguments what it is from row to row.

    Returns:
        The results, and the error as it travels, None when there is none.
    """
    results: list[Any] = []
    error: BaseException | None = None
    try:
        results.extend(map(function, *columns))  # those before an error are there
    except BaseException as raised:  # noqa: BLE001  the caller's, whatever it is
        error = raised
    else:
        if len(results) < len(columns[0]):
            error = StopIteration()  # the function's, which has ended the map
    if error is None:
        return results, None
    from aiopip._remote_errors import pack_error

    return results, pack_error(error, own=1)


def unpack_chunk(value: tuple[list[Any], Any]) -> tuple[list[Any], BaseException | None]:
    """What `run_chunk` returned, where it was called: the results, and the error to raise."""
    results, packed = value
    if packed is None:
        return results, None
    from aiopip._remote_errors import unpack_error

    return results, unpack_error(packed)
