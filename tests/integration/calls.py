"""Functions that the tests of pools call in workers, and gates by which they wait there."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import aiopip

if TYPE_CHECKING:
    import numpy as np

DEADLINE_S = 20.0

OPEN, BEGUN = 0, 1
"""The bytes of a gate."""


class Gate:
    """Memory that this process and a worker see: `at(gate)` in a worker waits until it is open."""

    def __init__(self) -> None:
        self._bytes = bytearray(2)
        self.ref = aiopip.ref(self._bytes)

    def open(self) -> None:
        """Let those go on who wait at it."""
        self._bytes[OPEN] = 1

    @property
    def begun(self) -> bool:
        """Whether somebody waits, or has waited, at it."""
        return bool(self._bytes[BEGUN])


def at(gate: memoryview, value: Any = None) -> Any:
    """Wait at a gate, and return a value."""
    gate[BEGUN] = 1
    end = time.monotonic() + DEADLINE_S
    while not gate[OPEN]:
        if time.monotonic() > end:
            raise TimeoutError("the gate was not opened")
        time.sleep(0.001)
    return value


def at_or_echo(argument: Any) -> Any:
    """Wait at a gate, where a tuple says so."""
    return at(*argument) if isinstance(argument, tuple) else argument


# What there is to return, and to raise


def echo(value: Any) -> Any:
    return value


def nothing(*_: Any, **__: Any) -> None:
    pass


def fail(text: str) -> None:
    try:
        os.environ["BEHIND IT"]
    except KeyError as error:
        raise LookupError(text) from error


def fail_for(value: int, bad: int = 3) -> int:
    if value == bad:
        raise ValueError(f"{value} is bad")
    return value * 10


def raise_one(kind: str) -> None:
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "CancelledError": asyncio.CancelledError("said"),
        "GeneratorExit": GeneratorExit(),
    }[kind]


class Unpicklable(Exception):
    """It holds what does not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Unreadable(Exception):
    """It pickles, and cannot be read again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


class ReadableThere(Exception):
    """It can be read in the process alone that has made it."""

    def __init__(self, text: str, pid: int | None = None) -> None:
        super().__init__(text, pid or os.getpid())
        if pid not in (None, os.getpid()):
            raise RuntimeError("not in this process")


def raise_unpicklable() -> None:
    raise Unpicklable("with a lock")


def raise_unreadable() -> None:
    raise Unreadable("one ", "two")


def raise_readable_there() -> None:
    raise ReadableThere("of a worker")


async def waits(*_: Any) -> None:
    """What has to be awaited."""


def return_unpicklable(kind: str) -> Any:
    if kind == "coroutine":
        return waits()
    return (one for one in "abc") if kind == "generator" else socket.socket()


def return_a_lock() -> Any:
    return threading.Lock()


class UnreadableHere:
    """A result whose reading raises in another process than the one that has made it."""

    def __init__(self, error: str) -> None:
        self.state = os.getpid(), error

    def __setstate__(self, state: Any) -> None:
        pid, error = state["state"]
        if pid != os.getpid():
            raise {"ValueError": ValueError("as it is read"), "SystemExit": SystemExit(4)}[error]


def unreadable_result(error: str) -> UnreadableHere:
    return UnreadableHere(error)


class Aware:
    """What notes the value of a context variable when it is read."""

    seen: Any = None

    def __reduce__(self) -> Any:
        return read_aware, ()


def read_aware() -> Aware:
    from integration import contexts

    made = Aware()
    made.seen = contexts.WHO.get("nobody")
    return made


def aware() -> Aware:
    return Aware()


def seen_path() -> list[object]:
    return [sys.prefix, sys.path]


# What happens to workers


def pid() -> int:
    return os.getpid()


def die(signum: int = signal.SIGKILL, text: str = "") -> None:
    print(text, file=sys.stderr, flush=True, end="")  # noqa: T201  the last that it says
    os.kill(os.getpid(), signum)
    time.sleep(DEADLINE_S)


def exit_now(status: int) -> None:
    os._exit(status)


def die_once(marker: str) -> str:
    """Die, but not when somebody has before."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "lived"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def set_up(value: Any) -> None:
    global _set_up  # noqa: PLW0603
    _set_up = value


_set_up: Any = None


def what_is_set_up() -> Any:
    return _set_up


def set_up_until(marker: str) -> None:
    """An initializer that fails from the moment on when there is a file."""
    if os.path.exists(marker):  # noqa: PTH110
        raise LookupError("there is a file")


def die_in_set_up(marker: str, signum: int) -> None:
    if os.path.exists(marker):  # noqa: PTH110
        os.kill(os.getpid(), signum)


def print_much(size: int) -> int:
    sys.stderr.write("x" * size + "\n")
    return size


def fork_and_return() -> str:
    """Return twice: in a child, too."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return "parent"
    return "child"


def close_all() -> str:
    os.closerange(3, 1000)
    return "closed"


def move_to(folder: str) -> str:
    os.chdir(folder)
    return os.getcwd()  # noqa: PTH109


def start_thread() -> int:
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    return threading.active_count()


def processors() -> set[int]:
    return os.sched_getaffinity(0)


# Memory


def ones(size: int) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.ones(size)


def sum_of(array: Any) -> float:
    return float(array.sum())


def double(array: Any, *, out: Any) -> None:
    out[...] = array * 2


def double_in_place(array: Any) -> None:
    array *= 2


def address_of(array: Any) -> int:
    import numpy as np

    return int(np.asarray(array).__array_interface__["data"][0])


_kept: list[Any] = []


def keep(value: Any) -> int:
    _kept.append(value)
    return len(_kept)


def kept() -> Any:
    return _kept[-1]


def let_go() -> None:
    _kept.clear()
    gc.collect()


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def leave_free(count: int, size: int) -> int:
    """Have malloc keep memory that nobody uses: what lies at its end is used.

    Returns:
        How much lies free, in bytes.
    """
    blocks = [bytes(size) for _ in range(count)]
    _kept.append(blocks[-1])
    del blocks
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    return int(mallinfo2().fordblks)


def many(count: int, size: int) -> list[Any]:
    import numpy as np

    return [np.ones(size, np.uint8) for _ in range(count)]


def fill(view: Any, value: int) -> int:
    for at in range(len(view)):
        view[at] = value
    return len(view)


def large(size: int) -> bytes:
    return b"x" * size


def raise_with(array: Any) -> None:
    error = ValueError(float(array.sum()))
    array.flags.writeable = False
    raise error


def pair(size: int) -> tuple[Any, Any]:
    array = ones(size)
    return array[: size // 2], array[size // 2 :]


class Numbered:
    """An array with something beside it."""

    def __init__(self, number: int, array: Any) -> None:
        self.number = number
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbered) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


def numbered(number: int, size: int) -> Numbered:
    array = ones(size)
    array *= number
    return Numbered(number, array)


# Tasks of tasks


def spawn_and_wait(*line: str) -> int:
    """A loop of its own in a worker, which asks the Root for a task."""

    async def main() -> int:
        task = await aiopip.this_task().root.spawn(*line)
        return int(await task.wait())

    return asyncio.run(main())
