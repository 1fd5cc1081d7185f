"""`aiopip run`: copies of a program as tasks of a Root, from a shell."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import signal
from typing import TYPE_CHECKING

import anyio

import aiopip
from aiopip._commands.outcome import FAILED, NOT_EXECUTABLE, NOT_FOUND, Outcome, report
from aiopip._commands.output import complain, terminal
from aiopip._ffi import MAX_TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end the command, and its tasks before."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        program: a path, or a name that is searched in PATH.
        args: its arguments.
        copies: how many tasks.
        processors: on which to run; of several copies each gets one, in turn.  None: on any.
        timeout_s: after how many seconds they are ended; None: never.
        as_json: whether one JSON object tells how they ended.
    """

    program: str
    args: tuple[str, ...]
    copies: int = 1
    processors: tuple[int, ...] | None = None
    timeout_s: float | None = None
    as_json: bool = False


def run(order: Order) -> int:
    """Run it; returns the exit status."""
    outcome = Outcome()
    try:
        asyncio.run(_run(order, outcome))
    except asyncio.CancelledError:
        pass  # by one of ENDING
    except OSError as error:
        complain(f"run: {error}")
        return _code_of(error)
    report(outcome, as_json=order.as_json)
    return outcome.code


def _code_of(error: OSError) -> int:
    """The exit status for what could not be started."""
    if isinstance(error, aiopip.ProgramNotFoundError):
        return NOT_FOUND
    refused = (aiopip.NotExecutableError, aiopip.BadProgramError, aiopip.PrivilegedProgramError)
    return NOT_EXECUTABLE if isinstance(error, refused) else FAILED


async def _run(order: Order, outcome: Outcome) -> None:
    """Start all and wait for all; the block of the Root ends them when it is left before."""
    with _ending_by_signals(outcome):
        limit = float("inf") if order.timeout_s is None else order.timeout_s
        with anyio.move_on_after(limit) as time:
            async with aiopip.Root(max_tasks=order.copies) as root:
                for number in range(order.copies):
                    task = await root.spawn(
                        order.program,
                        *order.args,
                        pipid=number,  # else a copy would have that of one that has ended by now
                        cpu=_processors(order, number),
                    )
                    outcome.tasks.append(task)
                with _progress(order.copies) as advance:
                    for _ in outcome.tasks:
                        await root.wait_any()
                        advance()
        outcome.timed_out = time.cancelled_caught


@contextlib.contextmanager
def _ending_by_signals(outcome: Outcome) -> Iterator[None]:
    """A block that is cancelled by each of ENDING.

    The first one has the Root send SIGTERM and, when the grace is over, SIGKILL; a second one has
    it do that at once.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt(number: int) -> None:
        outcome.interrupted = outcome.interrupted or number
        if task is not None:
            task.cancel()

    # What this process was started to ignore (nohup) stays ignored.
    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


def _processors(order: Order, number: int) -> set[int] | None:
    """Where a copy may run; None for wherever this process may."""
    if order.processors is None:
        return None
    if order.copies == 1:
        return set(order.processors)
    return {order.processors[number % len(order.processors)]}


@contextlib.contextmanager
def _progress(copies: int) -> Iterator[Callable[[], object]]:
    """How many have ended, where it disturbs nothing: on a terminal to which no task writes."""
    console = terminal(stderr=True)
    if console is None or copies == 1 or os.isatty(1):
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=copies)
        yield lambda: progress.advance(bar)


def processors(text: str) -> tuple[int, ...]:
    """The numbers of a list such as "0,2-4", in its order.

    Raises:
        argparse.ArgumentTypeError: it is no such list.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of processors as 0,2-4")
        found += range(int(first), int(last) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no processor")
    return tuple(dict.fromkeys(found))


def count(text: str) -> int:
    """A number of copies.

    Raises:
        argparse.ArgumentTypeError: it is none that a Root can have.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MAX_TASKS:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 1 and {MAX_TASKS}")
    return int(text)


def seconds(text: str) -> float:
    """A time limit.

    Raises:
        argparse.ArgumentTypeError: it is no positive number of seconds.
    """
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return limit
