"""The event loops that the tests run on, and a test's choice among them.

An async test is run on each of them, by the fixture `anyio_backend`; `--loops` chooses.
A test about what only some have is marked `@only("asyncio", reason=...)`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
from jobs import on_trio
from support import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """A kind of event loop.

    Attributes:
        name: as `--loops` and the tests' ids have it.
        backend: whose interface it has, "asyncio" or "trio", as anyio names it.
        options: anyio's, for such a loop.
        missing: what this machine lacks for it, nothing for one that can be run.
    """

    name: str
    backend: str
    options: dict[str, Any] = field(default_factory=dict, compare=False)
    missing: str = ""

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a coroutine function in a new loop of this kind, in this thread."""
        return anyio.run(function, *args, backend=self.backend, backend_options=self.options)


def _without(module: str) -> str:
    return "" if importlib.util.find_spec(module) else f"{module} is not installed"


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


_TOO_OLD = "" if sys.version_info >= (3, 12) else "eager tasks need Python 3.12"

KINDS = {
    kind.name: kind
    for kind in (
        Kind("asyncio", "asyncio", {"debug": False}),
        Kind("asyncio-debug", "asyncio", {"debug": True}),
        Kind("asyncio-eager", "asyncio", {"loop_factory": _eager_loop}, _TOO_OLD),
        Kind("uvloop", "asyncio", {"use_uvloop": True}, _without("uvloop")),
        Kind("trio", "trio"),
    )
}

INSTALLED = [kind for kind in KINDS.values() if not kind.missing]


def running() -> Kind:
    """The kind of the loop that runs in this thread."""
    if on_trio():
        return KINDS["trio"]
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        return KINDS["uvloop"]
    if loop.get_task_factory() is not None:
        return KINDS["asyncio-eager"]
    return KINDS["asyncio-debug" if loop.get_debug() else "asyncio"]


async def run_in_thread_loop(function: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function in a loop of its own, of the kind that runs here.

    The thread is a fresh one, so that what it does to its attributes ends with it.
    """
    kind, failed = running(), []

    def run() -> None:
        try:
            kind.run(function)
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await until(lambda: not thread.is_alive(), "the thread's loop ends")
    for error in failed:
        raise error


IN_SCRIPT = """
    import sys
    def run(main, kind=sys.argv[1]):
        if kind == "trio":
            import trio
            return trio.run(main)
        if kind == "uvloop":
            import uvloop
            return uvloop.run(main())
        import asyncio
        return asyncio.run(main())
"""
"""The beginning of a Python program whose first argument is one of IN_SCRIPTS."""

IN_SCRIPTS = [kind.name for kind in INSTALLED if kind.name in ("asyncio", "uvloop", "trio")]
"""The loops that end differently."""


# A test's choice


ABOUT_TO_GO_ON = "trio cancels no task that is about to go on, since what it awaits has come"
CANCELLED_TWICE = "trio's cancellation lasts: there is no second one"
"""Reasons of `only`."""


def only(name: str, *, reason: str) -> pytest.MarkDecorator:
    """Mark a test that is about some loops: "asyncio" (uvloop too), "trio", or one kind's name."""
    return pytest.mark.only(name, reason=reason)


VARIANTS = ("asyncio-debug", "asyncio-eager")
"""Kinds that differ from asyncio in nothing but when coroutines run, and in what is checked."""

ABOUT_LOOPS = {
    *("unit", "test_events", "test_forks", "test_group", "test_imports", "test_locks"),
    *("test_loops", "test_pipes", "test_root", "test_signals", "test_spawn_cancelled"),
    *("test_stops", "test_wait", "test_watchdog"),
}
"""Where the variants are run, too, when `--loops` does not ask for them."""


def of_test(path: Path, names: str | None) -> list[Kind]:
    """The loops that the tests of a file are run on."""
    kinds = parse(names)
    if names is not None or ABOUT_LOOPS & {path.stem, *path.parts}:
        return kinds
    return [kind for kind in kinds if kind.name not in VARIANTS]


def parse(names: str | None) -> list[Kind]:
    """What `--loops` says; "all" is each that is installed.

    Raises:
        pytest.UsageError: a name that is none.
    """
    if names is None or names == "all":
        return INSTALLED
    unknown = [name for name in names.split(",") if name not in KINDS]
    if unknown:
        raise pytest.UsageError(f"--loops: {', '.join(unknown)}: not among {', '.join(KINDS)}")
    return [KINDS[name] for name in names.split(",")]


def _of(kind: Kind) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.skip(reason=kind.missing)] if kind.missing else []
    if kind.backend == "trio":
        # A time limit by a signal would end the wait for trio, and not what runs in it: the plugin
        # waits on for that, for ever.
        marks.append(pytest.mark.timeout(method="thread"))
    return marks


def parametrize(metafunc: pytest.Metafunc, kinds: Iterable[Kind]) -> None:
    """Have a test run on each of these loops that it is about; a sync one on the first alone."""
    marks = list(metafunc.definition.iter_markers("only"))
    params = [
        pytest.param((kind.backend, kind.options), id=kind.name, marks=_of(kind))
        for kind in kinds
        if all(mark.args[0] in (kind.name, kind.backend) for mark in marks)
    ]
    if not params:
        reasons = [f"for {mark.args[0]} only: {mark.kwargs['reason']}" for mark in marks]
        mark = pytest.mark.skip(reason="; ".join(reasons))
        params.append(pytest.param(("asyncio", {}), id="no loop", marks=mark))
    if not asyncio.iscoroutinefunction(metafunc.function):
        params = params[:1]
    metafunc.parametrize("anyio_backend", params, indirect=True)
