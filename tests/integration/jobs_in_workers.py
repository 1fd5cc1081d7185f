"""Functions that the tests of `PoolExecutor` run in workers, which import them from here."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import aiopip

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.synchronize import Event

    from aiopip import PoolExecutor

given: Any = None
"""What the initializer was called with."""


def remember(*what: Any) -> None:
    """An initializer."""
    global given  # noqa: PLW0603  what an initializer is for
    given = what


def recall() -> Any:
    return given


def refuse(kind: type[BaseException]) -> None:
    """An initializer that fails."""
    raise kind("not with me")


def fail(number: int) -> None:
    raise ValueError(number)


class HidingError(Exception):
    """Does not pickle."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def fail_hiding() -> None:
    raise HidingError("hidden", 3)


def lock() -> Any:
    """A result that does not pickle."""
    return threading.Lock()


class Unreadable:
    """Pickles, and cannot be read."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise ZeroDivisionError("on arrival")


def unreadable() -> Unreadable:
    return Unreadable()


def hold(name: str) -> int:
    """Import what the Root exports, and keep it: its first byte."""
    global given  # noqa: PLW0603  it stays behind the call
    me = aiopip.this_task()
    given = me.named_import_nowait(me.root, name).view()
    return first_held()


def first_held() -> int:
    return int(given[0])


def sum_and_pid(*numbers: int, extra: int = 0) -> tuple[int, int]:
    return sum(numbers) + extra, os.getpid()


def pid(_: Any = None) -> int:
    return os.getpid()


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(status: int) -> None:
    os._exit(status)


def exit_by_exception() -> None:
    sys.exit(3)


def complain_and_die(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def wait_for_given(number: int = 0) -> int:
    """Wait for the last event that the initializer was called with."""
    assert given[-1].wait(30)
    return number


def begin_and_wait() -> None:
    """Tell by the first event that was given, and wait for the second."""
    given[0].set()
    assert given[1].wait(30)


def wait_if(number: int) -> int:
    return wait_for_given(number) if number == 0 else number


def stop_at_three(number: int) -> int:
    if number == 3:
        raise StopIteration
    return number


def set_event() -> None:
    given[0].set()


def ignore_sigterm_and_wait() -> int:
    """Tell by the first event when SIGTERM does nothing, and wait for the second."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin_and_wait()
    return os.getpid()


def exchange(text: str) -> Any:
    """Through the queue, the lock and the other things of multiprocessing that were given."""
    queue, lock, event, semaphore, value = given
    with lock, semaphore:
        value.value += 1
    event.set()
    queue.put((text, os.getpid()))
    return value.value


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def fill(out: Any, number: float) -> None:
    out[:] = number


def double(array: Any) -> Any:
    return array * 2


def size(data: bytes) -> tuple[int, bytes]:
    return len(data), data[:1]


def repeat(data: bytes, times: int) -> bytes:
    return data * times


def nested() -> Any:
    """Open an executor in a worker."""
    return aiopip.PoolExecutor(1).submit(pid)


def read_stdin() -> str:
    return sys.stdin.read()


def square(number: int) -> int:
    return number * number


def in_event(event: Event) -> bool:
    return event.is_set()


def parallel(backend: str | None) -> tuple[set[int], str]:
    """Call in parallel by joblib: in which processes that ran, and in which thread."""
    import joblib

    calls = (joblib.delayed(_where)() for _ in range(4))
    where = joblib.Parallel(n_jobs=2, backend=backend)(calls)
    return {pid for pid, _ in where}, where[0][1]


def _where() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


class Calling:
    """An object that submits a call where it is read, if that is where there is an executor."""

    pool: ClassVar[PoolExecutor | None] = None

    def __init__(self, number: int) -> None:
        self.number = number
        self.future: Future[int] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.pool is not None:
            self.future = self.pool.submit(abs, -2 * self.number)


class Owner:
    """Ends its executor when the garbage collector finds it."""

    def __init__(self, pool: PoolExecutor) -> None:
        self.pool = pool
        self.myself = self

    def __del__(self) -> None:
        self.pool.shutdown(wait=False)
