"""Forks of a root: the child's copy is dead, and a daemon opens its Root behind its forks."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import anyio.to_thread
import numpy as np
import pytest
from integration.server import serve
from loops import IN_SCRIPT, IN_SCRIPTS
from support import block_until, is_gone, run_python, settled, still_works, until

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_child_may_drop_all_that_it_has_and_the_parent_goes_on(
    root: aiopip.Root, pip_program: Programs
) -> None:
    """Destructors in the child give nothing back: what they would is the parent's."""
    async with serve(root, pip_program("server")) as server:
        assert await server.ask("grid 1000") == "OK"
        assert await server.ask("export-grid grid") == "OK"
        array = np.asarray((await root.named_import(server.task, "grid")).cast("f8", 1000))
        export = root.export("words", np.arange(10.0))
        lock = aiopip.Lock()
        stream = root.events()
        with lock:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with pytest.raises(aiopip.ForkedError):
                        lock.release()
                    with pytest.raises(aiopip.ForkedError):
                        export.withdraw()
                    with pytest.raises(aiopip.ForkedError):
                        aiopip.Root().__aenter__().send(None)
                    del root, server, array, export, lock, stream
                    gc.collect()
                    code = 0
                finally:
                    os._exit(code)
            _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
        assert not export.withdrawn
        export.withdraw()
        assert await server.end() == 0
        assert await anext(stream) == aiopip.Exited(server.task, aiopip.ExitStatus(0))
        # The child's copy of the array was dropped, and this process has it still.
        await until(lambda: root.statistics().held == 1)
        assert array.sum() == 999 * 500
        del array
        await settled(root)
        await still_works(root)


DAEMON = (
    IN_SCRIPT
    + """
    import os, warnings
    import aiopip
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
    def daemonise():
        # As daemon(3) does it, and once more, so that it can have no terminal.
        if os.fork() > 0:
            os._exit(0)
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    async def use():
        async with aiopip.Root() as root:
            say("status", int(await (await root.spawn("true")).wait()))
"""
)


@pytest.mark.parametrize("kind", IN_SCRIPTS)
def test_daemon_opens_a_root_behind_its_forks(kind: str) -> None:
    source = """
    daemonise()
    run(use)
    say("parent", os.getppid() != os.getpgrp())
    """
    done = run_python(DAEMON + source, kind)
    assert (done.stdout, done.stderr, done.returncode) == ("status 0\nparent True\n", "", 0)


@pytest.mark.parametrize("kind", IN_SCRIPTS)
def test_daemon_whose_root_was_opened_before_its_forks_is_refused(kind: str) -> None:
    """And the tasks of the Root end with the process that had it."""
    source = """
    async def main():
        root = aiopip.Root()
        await root.__aenter__()
        task = await root.spawn("sleep", "1000")
        say(task.pid)
        daemonise()
        for use in (root.statistics, root.kill_all, task.kill, root.spawn("true").send,
                    aiopip.Root().__aenter__().send):
            try:
                use() if use.__name__ != "send" else use(None)
            except aiopip.ForkedError as error:
                say(error)
        os._exit(0)
    run(main)
    """
    done = run_python(DAEMON + source, kind)
    pid, *refused = done.stdout.splitlines()
    assert len(refused) == 5, done
    assert all("fork" in line for line in refused)
    assert (done.stderr, done.returncode) == ("", 0)
    block_until(lambda: is_gone(int(pid)), "the task is killed with the thread that cloned it")


@pytest.mark.parametrize("kind", IN_SCRIPTS)
def test_process_that_has_closed_its_root_may_fork_and_open_another(kind: str) -> None:
    source = """
    run(use)
    daemonise()
    run(use)
    """
    done = run_python(DAEMON + source, kind)
    assert (done.stdout, done.stderr, done.returncode) == ("status 0\nstatus 0\n", "", 0)
