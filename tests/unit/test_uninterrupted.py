"""Ctrl-C is put off to the end of a block, and of no other thread's business."""

from __future__ import annotations

import _thread
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiopip._uninterrupted import Uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_handler_runs_at_the_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Uninterrupted():  # noqa: PT012  what it is about
        _thread.interrupt_main()
        done.append(1)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_raised_without_a_signal() -> None:
    with Uninterrupted():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_blocks_nest() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Uninterrupted():  # noqa: PT012
        with Uninterrupted():
            _thread.interrupt_main()
            done.append(1)
        done.append(2)
    assert done == [1, 2]


def test_an_error_of_the_block_is_the_context_of_the_interruption() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, Uninterrupted():  # noqa: PT012
        _thread.interrupt_main()
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_a_handler_that_was_set_within_stays() -> None:
    def another(*_: Any) -> None:
        """Do nothing."""

    with Uninterrupted():
        signal.signal(signal.SIGINT, another)
    assert signal.getsignal(signal.SIGINT) is another


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_no_function_is_left_alone(handler: Any) -> None:
    signal.signal(signal.SIGINT, handler)
    with Uninterrupted():
        assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_change_no_handler() -> None:
    found: list[Any] = []

    def look() -> None:
        with Uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
