"""<pip/pip.h> between C tasks: pip_get_pipid, pip_isa_task, named exports and imports, pip_exit."""

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from integration.server import Server, pending, serve
from jobs import start
from support import clean_root, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from integration.conftest import Programs

    import aiopip


@pytest.fixture(scope="session")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


@pytest.fixture
async def pair(root: aiopip.Root, path: Path) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers, PiP IDs 0 and 1."""
    async with serve(root, path) as first, serve(root, path) as second:
        yield first, second


async def test_task_knows_its_pipid(root: aiopip.Root, path: Path) -> None:
    for pipid in (0, 5, 1023):
        async with serve(root, path, pipid=pipid) as server:
            assert await server.ask("who") == f"1 OK {pipid}"


def test_same_program_outside_a_root_is_no_task(path: Path) -> None:
    lines = "who\nexport x\nimport 0 x\ntry 0 x\n"
    done = subprocess.run([path], input=lines, capture_output=True, text=True, check=True)
    assert done.stdout == "0 EPERM -1\nEPERM\nEPERM -1\nEPERM -1\n"


async def test_child_by_fork_is_no_task(pair: tuple[Server, Server]) -> None:
    server, _ = pair
    assert await server.ask("child") == "0 EPERM EPERM EPERM EPERM 1"
    assert await server.ask("who") == "1 OK 0"


async def test_import_finds_what_was_exported(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    assert await exporter.ask("export answer") == "OK"
    assert await importer.ask("import 0 answer") == "OK 41"
    assert await importer.ask("try 0 answer") == "OK 41"
    assert await importer.ask("try 0 other") == "EAGAIN -1"
    assert await exporter.ask("import 0 answer") == "OK 41"
    assert await exporter.ask("import -749 answer") == "OK 41"  # PIP_PIPID_MYSELF


async def test_import_waits_for_the_export(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    importer.tell("import 0 answer")
    answer = start(importer.answer())
    assert await pending(answer)
    assert await exporter.ask("export another") == "OK"
    assert await pending(answer)
    assert await exporter.ask("export answer") == "OK"
    assert await answer == "OK 41"


async def test_import_waits_for_a_task_that_is_not_started_yet(
    root: aiopip.Root, path: Path
) -> None:
    async with serve(root, path, pipid=0) as importer:
        importer.tell("import 7 answer")
        answer = start(importer.answer())
        assert await pending(answer)
        async with serve(root, path, pipid=7) as exporter:
            assert await exporter.ask("export answer") == "OK"
            assert await answer == "OK 41"


async def test_waiting_for_oneself_is_a_deadlock(pair: tuple[Server, Server]) -> None:
    server, _ = pair
    assert await server.ask("import 0 absent") == "EDEADLK -1"
    assert await server.ask("import -749 absent") == "EDEADLK -1"
    assert await server.ask("try 0 absent") == "EAGAIN -1"


async def test_name_is_exported_once(pair: tuple[Server, Server]) -> None:
    first, second = pair
    assert await first.ask("export name") == "OK"
    assert await first.ask("export name") == "EBUSY"
    assert await first.ask("export-grid name") == "EBUSY"
    assert await second.ask("export name") == "OK"
    assert await second.ask("import 0 name") == "OK 41"


@pytest.mark.parametrize("pipid", [1024, 4096, -1, -2, -747, -750, -751, 2147483647])
async def test_impossible_pipid_is_out_of_range(pair: tuple[Server, Server], pipid: int) -> None:
    server, _ = pair
    assert await server.ask(f"import {pipid} name") == "ERANGE -1"
    assert await server.ask(f"try {pipid} name") == "ERANGE -1"


@pytest.mark.parametrize("how", ["exit 0", "exit 3", "kill"])
async def test_import_is_cancelled_when_the_exporter_ends_without(
    pair: tuple[Server, Server], how: str
) -> None:
    exporter, importer = pair
    importer.tell("import 0 never")
    answer = start(importer.answer())
    assert await pending(answer)
    await exporter.end(how)
    assert await answer == "ECANCELED -1"
    assert await importer.ask("import 0 never") == "ECANCELED -1"
    assert await importer.ask("who") == "1 OK 1"


async def test_memory_of_an_ended_exporter_stays_for_its_importers(
    root: aiopip.Root, pair: tuple[Server, Server]
) -> None:
    exporter, importer = pair
    assert await exporter.ask("export answer") == "OK"
    assert await importer.ask("import 0 answer") == "OK 41"
    assert await exporter.end() == 0
    await until(lambda: root.statistics().held == 1)
    assert await importer.ask("import 0 answer") in ("OK 41", "ECANCELED -1")
    assert await importer.end() == 0
    await until(lambda: root.statistics().held == 0)


async def test_longest_name_has_255_bytes(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    for name in ("n" * 255, "ü" * 127 + "x", "%s%d%n"):
        assert await exporter.ask(f"export {name}") == "OK"
        assert await importer.ask(f"import 0 {name}") == "OK 41"
    assert await exporter.ask("export " + "n" * 256) == "EINVAL"
    assert await importer.ask("try 0 " + "n" * 256) == "EINVAL -1"
    assert await exporter.ask("who") == "1 OK 0"


async def test_name_with_nul_in_it_is_refused(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    assert await exporter.ask("export-nul") == "EINVAL"
    assert await importer.ask("try-nul") == "EINVAL"
    assert await importer.ask("try 0 a") == "EAGAIN -1"


async def test_null_is_the_empty_name(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    assert await importer.ask("try-null 0") == "EAGAIN"
    assert await exporter.ask("export-null") == "OK"
    assert await importer.ask("try-null 0") == "OK"


async def test_many_exports_from_many_threads(pair: tuple[Server, Server]) -> None:
    exporter, importer = pair
    assert await exporter.ask("threads") == "OK"
    for thread in range(8):
        for number in range(0, 100, 7):
            expected = f"OK {thread * 1000 + number}"
            assert await importer.ask(f"import 0 number-{thread}-{number}") == expected


async def test_pip_exit_ends_as_exit_does(pair: tuple[Server, Server]) -> None:
    first, second = pair
    assert await first.end("exit 42") == 42
    assert await second.ask("who") == "1 OK 1"
    assert await second.end("kill") == -9


async def test_a_ring_of_tasks_imports_from_its_neighbours(path: Path) -> None:
    """All at once, and half of the exporters later than their importers."""
    count = 16
    async with clean_root(max_tasks=count) as root, AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve(root, path)) for _ in range(count)]
        for number in range(0, count, 2):
            servers[number].tell("export here")
        for number, server in enumerate(servers):
            server.tell(f"import {(number + 1) % count} here")
        for number in range(0, count, 2):
            assert await servers[number].answer() == "OK"
        # The odd ones wait for even ones, have their answer, and export then.
        for number in range(1, count, 2):
            assert await servers[number].answer() == "OK 41"
            servers[number].tell("export here")
            assert await servers[number].answer() == "OK"
        for number in range(0, count, 2):
            assert await servers[number].answer() == "OK 41"
