"""Root.spawn_python and Root.spawn_module: interpreters of one function, or of a module."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from integration import calls
from integration.calls import Gate
from jobs import begun, cancelled, outcomes, turns
from support import is_gone, output, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_function_and_its_result(root: aiopip.Root) -> None:
    task = await root.spawn_python(calls.echo, [1, "two"])
    assert isinstance(task, aiopip.PythonTask)
    assert await task.result() == [1, "two"]
    assert await task.wait() == 0
    assert await task.result() == [1, "two"]
    assert task.name == "echo"
    pid = await root.spawn_python(os.getpid)
    assert await pid.result() == pid.pid
    two = [await root.spawn_python(calls.echo, value=number) for number in range(2)]
    assert [await one.result() for one in two] == [0, 1]


async def test_by_name(root: aiopip.Root) -> None:
    task: aiopip.PythonTask[Any] = await root.spawn_python("os.path:join", "a", "b")
    assert await task.result() == "a/b"
    dotted: aiopip.PythonTask[Any] = await root.spawn_python(
        "collections:OrderedDict.fromkeys", "ab"
    )
    assert list(await dotted.result()) == ["a", "b"]
    for wrong in ("os.path", "os.path:", ":join", "a:b:c"):
        with pytest.raises(aiopip.InvalidArgumentError, match="is not 'module:function'"):
            await root.spawn_python(wrong)
    missing: aiopip.PythonTask[Any] = await root.spawn_python("no.such.module:function")
    with pytest.raises(ModuleNotFoundError, match="no"):
        await missing.result()
    assert await missing.wait() == 1


async def test_the_same_interpreter_and_path(root: aiopip.Root) -> None:
    path = await root.spawn_python(calls.seen_path)
    assert await path.result() == [sys.prefix, [one or os.getcwd() for one in sys.path]]  # noqa: PTH109


async def test_errors(root: aiopip.Root) -> None:
    task = await root.spawn_python(calls.fail, "on purpose")
    for _ in range(2):
        with pytest.raises(LookupError, match="on purpose") as caught:
            await task.result()
        assert "in fail" in str(caught.value.__cause__)
    assert await task.wait() == 1
    unpicklable = await root.spawn_python(calls.raise_unpicklable)
    with pytest.raises(aiopip.RemoteError, match="with a lock"):
        await unpicklable.result()
    interrupted = await root.spawn_python(calls.raise_one, "KeyboardInterrupt")
    with pytest.raises(aiopip.RemoteError, match="KeyboardInterrupt"):
        await interrupted.result()
    result = await root.spawn_python(calls.return_a_lock)
    with pytest.raises(aiopip.NotPicklableError, match="its result"):
        await result.result()
    with pytest.raises(aiopip.NotPicklableError, match="argument 1"):
        await root.spawn_python(calls.echo, threading.Lock())
    with pytest.raises(aiopip.InvalidArgumentError, match="is copied"):
        await root.spawn_python(calls.double, 1, out=bytearray(3))


async def test_a_task_that_ends_without_a_result(root: aiopip.Root) -> None:
    leaves = await root.spawn_python(calls.raise_one, "SystemExit")
    with pytest.raises(aiopip.TaskFailed) as caught:
        await leaves.result()
    assert caught.value.status == 3
    assert await leaves.wait() == 3
    killed = await root.spawn_python(calls.die, signal.SIGTERM)
    with pytest.raises(aiopip.TaskFailed) as caught:
        await killed.result()
    assert (caught.value.status, caught.value.task) == (-signal.SIGTERM, killed)


async def test_results_by_reference_outlive_the_task() -> None:
    np = pytest.importorskip("numpy")
    async with aiopip.Root() as root:
        given = np.zeros(1000)
        writes = await root.spawn_python(calls.double, np.ones(1000), out=given)
        await writes.result()
        assert given.sum() == 2000
        task = await root.spawn_python(calls.ones, 100_000)
        found = await task.result()
        assert await task.wait() == 0
        del task
        gc.collect()
        assert found.sum() == 100_000
        same = await (await root.spawn_python(calls.echo, given)).result()
        assert calls.address_of(same) == calls.address_of(given)
    assert found.sum() == 100_000
    del found


async def test_cancelled(root: aiopip.Root) -> None:
    spawning = await begun(root.spawn_python(calls.nothing))
    await turns(1)
    spawning.cancel()
    (found,) = await outcomes(spawning)
    if isinstance(found, aiopip.PythonTask):  # it was there before
        await found.wait()
    else:
        assert isinstance(found, cancelled())
    gate = Gate()
    task = await root.spawn_python(calls.at, gate.ref, "value")
    await until(lambda: gate.begun)
    waits = await begun(task.result())
    waits.cancel()
    await outcomes(waits)
    assert waits.cancelled()
    gate.open()
    assert await task.result() == "value"


async def test_the_root_is_left_before_a_result() -> None:
    gate = Gate()
    async with aiopip.Root() as root:
        task = await root.spawn_python(calls.at, gate.ref)
        waits = await begun(task.result())
        await until(lambda: gate.begun)
        root.abort()
    (found,) = await outcomes(waits)
    assert isinstance(found, (aiopip.TaskFailed, aiopip.ClosedError)), found
    assert is_gone(task.pid)


async def test_modules(root: aiopip.Root, tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text(
        "import sys\nprint(__name__, sys.argv[1:])\nsys.exit(len(sys.argv))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with (tmp_path / "out").open("wb") as file:
            task = await root.spawn_module("tool", "a", "b", stdout=file)
        assert await task.wait() == 3
    finally:
        sys.path.remove(str(tmp_path))
    assert (tmp_path / "out").read_text() == "__main__ ['a', 'b']\n"
    with (tmp_path / "err").open("wb") as file:
        missing = await root.spawn_module("no_such_module", stderr=file)
    assert await missing.wait() == 1
    assert "No module named" in (tmp_path / "err").read_text()
    assert await output(root, "true") == b""
