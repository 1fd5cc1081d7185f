"""root.named_import: when it waits, what it finds, and when it is cancelled."""

# Which statement of the block raises is what is tested.
# ruff: noqa: PT012

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from integration.server import pending, serve
from jobs import cancelled, start, turns
from loops import ABOUT_TO_GO_ON, only
from support import clean_root, until

import aiopip
from aiopip import _imports
from aiopip._ffi import Hold

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs


@pytest.fixture(scope="session")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


def value(region: aiopip.Region) -> int:
    return int(region.cast("i4", 1).view()[0])


async def test_import_finds_what_was_exported(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        assert await server.ask("export answer") == "OK"
        assert value(await root.named_import(server.task, "answer")) == 41
        assert value(await server.task.named_import("answer")) == 41
        assert value(root.named_import_nowait(server.task, "answer")) == 41


async def test_import_waits_for_the_export(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        waiting = [start(root.named_import(server.task, "late")) for _ in range(5)]
        assert await pending(waiting[0])
        assert await server.ask("export other") == "OK"
        assert await pending(waiting[0])
        with pytest.raises(aiopip.WouldBlock) as caught:
            root.named_import_nowait(server.task, "late")
        assert isinstance(caught.value, BlockingIOError)
        assert await server.ask("export late") == "OK"
        assert [value(await one) for one in waiting] == [41] * 5


async def test_import_may_be_called_before_the_task_has_loaded(
    root: aiopip.Root, path: Path
) -> None:
    for _ in range(20):
        async with serve(root, path) as server:
            waiting = start(root.named_import(server.task, "answer"))
            server.tell("export answer")
            assert value(await waiting) == 41


async def test_cancelled_import_holds_nothing(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        for count in range(6):
            waiting = start(root.named_import(server.task, f"late{count}"))
            await turns(1)
            server.tell(f"export late{count}")
            await turns(count)
            waiting.cancel()
            with contextlib.suppress(cancelled()):
                assert value(await waiting) == 41
            assert await server.answer() == "OK"
        assert value(await root.named_import(server.task, "late0")) == 41


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_in_the_iteration_in_which_it_was_found(
    root: aiopip.Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = _imports.Imports.retry
    async with serve(root, path) as server:
        waiting = start(root.named_import(server.task, "late"))
        await turns(2)

        def retry_and_cancel(imports: _imports.Imports, state: object) -> None:
            retry(imports, state)  # type: ignore[arg-type]
            waiting.cancel()

        monkeypatch.setattr(_imports.Imports, "retry", retry_and_cancel)
        assert await server.ask("export late") == "OK"
        with pytest.raises(cancelled()):
            await waiting
        monkeypatch.undo()


@pytest.mark.parametrize("how", ["exit 0", "exit 9", "kill"])
async def test_import_is_cancelled_when_the_task_ends_without(
    root: aiopip.Root, path: Path, how: str
) -> None:
    async with serve(root, path) as server:
        assert await server.ask("export other") == "OK"
        waiting = start(root.named_import(server.task, "never"))
        assert await pending(waiting)
        server.tell(how)
        with pytest.raises(aiopip.ImportCanceledError, match="never") as caught:
            await waiting
        assert caught.value.errno == 125
        await server.task.wait()
        for name in ("never", "other"):
            with pytest.raises(aiopip.ImportCanceledError):
                await root.named_import(server.task, name)
            with pytest.raises(aiopip.ImportCanceledError):
                root.named_import_nowait(server.task, name)


async def test_import_from_a_program_that_knows_nothing_of_pip(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "0.05")
    with pytest.raises(aiopip.WouldBlock):
        root.named_import_nowait(task, "x")
    with pytest.raises(aiopip.ImportCanceledError):
        await root.named_import(task, "x")


@pytest.mark.parametrize("how", ["return", "_exit", "kill"])
async def test_export_made_just_before_the_end_is_never_lost(
    root: aiopip.Root, pip_program: Programs, how: str
) -> None:
    """The import is called before the end; the export is made in the task's last microseconds."""
    path = pip_program("export_and_exit")
    for count in range(70):
        reader, writer = os.pipe()
        task = await root.spawn(path, how, stdin=reader)
        os.close(reader)
        waiting = start(root.named_import(task, "value"))
        await turns(1 + count % 3)
        os.close(writer)
        assert value(await waiting) == 4711
        assert await task.wait() == (-9 if how == "kill" else 0)


async def test_import_called_as_soon_as_spawn_returns_is_never_lost(
    root: aiopip.Root, pip_program: Programs
) -> None:
    """The task may be exporting, ending or ended while the import is called."""
    path = pip_program("export_and_exit")
    lost = 0
    for _ in range(200):
        task = await root.spawn(path, "_exit", stdin=subprocess.DEVNULL)
        try:
            assert value(await root.named_import(task, "value")) == 4711
        except aiopip.ImportCanceledError:
            lost += 1
        await task.wait()
    assert lost == 0


async def test_region_of_an_ended_task_stays_readable(
    root: aiopip.Root, pip_program: Programs
) -> None:
    path = pip_program("export_and_exit")
    regions = []
    for _ in range(20):
        reader, writer = os.pipe()
        task = await root.spawn(path, stdin=reader)
        os.close(reader)
        waiting = start(root.named_import(task, "value"))
        await turns(1)
        os.close(writer)
        regions.append(await waiting)
        await task.wait()
    await until(lambda: root.statistics().held == 20)
    assert [value(region) for region in regions] == [4711] * 20


async def test_dropped_region_is_let_go_of_without_another_wait(
    root: aiopip.Root, path: Path
) -> None:
    def holds() -> int:
        return sum(isinstance(thing, Hold) for thing in gc.get_objects())

    async def import_and_drop() -> int:
        region = await root.named_import(server.task, "late")
        assert value(region) == 41
        assert holds() == before + 1
        del region
        return holds()

    async with serve(root, path) as server:
        before = holds()
        waiting = start(import_and_drop())
        assert await pending(waiting)
        assert await server.ask("export late") == "OK"
        assert await waiting == before


@pytest.mark.parametrize("name", ["", "n" * 256, "ü" * 128, "\udc80", 7])
async def test_impossible_name_is_refused(root: aiopip.Root, path: Path, name: str) -> None:
    async with serve(root, path) as server:
        with pytest.raises(aiopip.InvalidArgumentError, match="name"):
            await root.named_import(server.task, name)
        with pytest.raises(aiopip.InvalidArgumentError, match="name"):
            root.named_import_nowait(server.task, name)
        for good in ("n" * 255, "ü" * 127):
            assert await server.ask(f"export {good}") == "OK"
            assert value(await root.named_import(server.task, good)) == 41


async def test_what_is_no_task_of_this_root_is_refused(path: Path) -> None:
    async with clean_root() as other:
        foreign = await other.spawn("true")
        await foreign.wait()
    async with clean_root() as root:
        for stranger in (foreign, 0, None):
            with pytest.raises(aiopip.InvalidTaskError):
                await root.named_import(stranger, "x")  # type: ignore[arg-type]


async def test_imports_pending_when_the_root_is_left_are_cancelled(path: Path) -> None:
    with pytest.raises(KeyError):
        async with aiopip.Root() as root:
            reader, writer = os.pipe()
            task = await root.spawn(path, stdin=reader)
            os.close(reader)
            waiting = start(root.named_import(task, "never"))
            assert await pending(waiting)
            raise KeyError
    os.close(writer)
    with pytest.raises(aiopip.ImportCanceledError):
        await waiting


async def test_many_tasks_export_at_once(path: Path) -> None:
    async with clean_root(max_tasks=64) as root, AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve(root, path)) for _ in range(64)]
        waiting = [
            start(root.named_import(server.task, f"name{number}"))
            for server in servers
            for number in range(4)
        ]
        await turns(2)
        for server in servers:
            for number in range(4):
                server.tell(f"export name{number}")
        assert [value(await one) for one in waiting] == [41] * 256
        for server in servers:
            assert [await server.answer() for _ in range(4)] == ["OK"] * 4
        del waiting
