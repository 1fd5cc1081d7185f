"""aiopip.this_task(): who is a task, the same in all threads, and in children of tasks."""

from __future__ import annotations

import os

import pytest
from integration.pythons import as_task, python
from integration.worker import Told, work
from support import is_gone, run_python, until

import aiopip


async def test_this_task_says_who_it_is(root: aiopip.Root) -> None:
    async with work(root, pipid=3) as worker:
        assert await worker.do("(me.pipid, me.pid == os.getpid())") == (3, True)
        assert await worker.do("me.root.pid") == os.getpid()
        pid = worker.task.pid
        assert await worker.do("repr(me)") == f"<aiopip.ThisTask pipid=3 pid={pid}>"
        assert await worker.do("repr(me.root)") == f"<aiopip.RemoteRoot pid={os.getpid()}>"
        assert await worker.do("aiopip.this_task() is me") is True


async def test_threads_get_the_same_one(root: aiopip.Root) -> None:
    async with work(root, "found = []") as worker:
        await worker.do("""
            sys.setswitchinterval(1e-6)
            barrier = threading.Barrier(8)
            def find():
                barrier.wait()
                found.append(aiopip.this_task())
            threads = [threading.Thread(target=find) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        """)
        assert await worker.do("(len(found), len(set(map(id, found))))") == (8, 1)


async def test_what_is_no_task_has_none(root: aiopip.Root) -> None:
    for _ in range(2):
        with pytest.raises(aiopip.NotInitializedError, match=r"no PiP task.*root\.spawn") as caught:
            aiopip.this_task()
    assert caught.value.errno == 1
    assert aiopip.current_root() is root
    async with work(root) as worker:
        with pytest.raises(Told, match="NotInitializedError"):
            await worker.do("aiopip.current_root()")
        with pytest.raises(Told, match="NotPermittedError: this process is a task itself"):
            await worker.do("async with aiopip.Root(): pass")


async def test_python_that_a_task_execs_is_none(root: aiopip.Root) -> None:
    source = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    then = (
        "import aiopip\ntry: aiopip.this_task()\nexcept aiopip.NotInitializedError: print('none')"
    )
    ran = await as_task(root, *python(source, then), cwd="/")
    assert (ran.status, ran.out.split()) == (0, [b"none"]), ran.err


async def test_child_by_fork_is_no_task(root: aiopip.Root) -> None:
    root.export("data", b"abc")
    async with work(root) as worker:
        await worker.do("""
            export = me.export("mine", bytearray(3))
            region = me.named_import_nowait(me.root, "data")
            reader, writer = os.pipe()
            def name(use):
                try: use()
                except Exception as error: return type(error).__name__
            if os.fork() == 0:
                told = [name(use) for use in (
                    aiopip.this_task,
                    lambda: me.export("x", b""),
                    lambda: me.named_import_nowait(me.root, "data"),
                    lambda: me.named_import_sync(me.root, "data"),
                    lambda: me.named_import_sync(me.root, "absent"),
                    export.withdraw,
                )]
                told.append(str(bytes(region.view()) == b"abc"))
                del region
                os.write(writer, " ".join(map(str, told)).encode())
                os._exit(0)
            os.wait()
            told = os.read(reader, 1000).decode()
        """)
        told = (await worker.do("told")).split()
        assert told == ["NotInitializedError", *["ForkedError"] * 5, "True"]
        # The parent's are untouched.
        assert await worker.do("(export.withdrawn, bytes(region.view()))") == (False, b"abc")
        assert bytes(root.named_import_nowait(worker.task, "mine").view()) == bytes(3)


async def test_root_of_another_abi_is_refused(root: aiopip.Root) -> None:
    prepare = """
        import ctypes
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        version = ctypes.c_uint32.from_address(getauxval(0x50495041) + 8)
        right, version.value = version.value, 99
    """
    async with work(root, prepare) as worker:
        with pytest.raises(Told, match=r"AbiMismatchError: .*has ABI version \d+, the root's 99"):
            await worker.do("aiopip.this_task()")
        with pytest.raises(Told, match=r"AbiMismatchError"):
            await worker.do("aiopip.Lock().acquire_nowait()")
        await worker.do("version.value = right")
        assert await worker.do("aiopip.this_task().pipid") == worker.task.pipid


async def test_end_while_threads_wait(root: aiopip.Root) -> None:
    """Daemon threads asleep in an import do not keep the task, and the waiter's thread ends."""
    async with work(root) as worker:
        await worker.do("""
            for _ in range(3):
                threading.Thread(
                    target=me.named_import_sync, args=(me.root, "never"), daemon=True
                ).start()
            waits = [asyncio.ensure_future(me.named_import(me.root, "never")) for _ in range(3)]
            await asyncio.sleep(0)
        """)
        assert await worker.end("for one in waits: one.cancel()\nsys.exit(4)") == 4


async def test_import_in_another_loop_and_thread(root: aiopip.Root) -> None:
    async with work(root) as worker:
        worker.tell("""
            def run():
                found.append(bytes(asyncio.run(me.named_import(me.root, "late")).view()))
            found = []
            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads: thread.start()
            me.export("ready", b"")
            for thread in threads: thread.join()
        """)
        await root.named_import(worker.task, "ready")
        root.export("late", b"late")
        await worker.answer()
        assert await worker.do("found") == [b"late"] * 4


async def test_ctrl_c_wakes_an_import(root: aiopip.Root) -> None:
    async with work(root) as worker:
        worker.tell("""
            import signal
            signal.signal(signal.SIGUSR1, signal.default_int_handler)
            outcome = ""
            try: me.named_import_sync(me.root, "never")
            except KeyboardInterrupt: outcome = "interrupted"
        """)
        await worker.asleep()
        worker.task.send_signal(10)
        await worker.answer()
        assert await worker.do("outcome") == "interrupted"
        # A handler that returns lets it go on.
        worker.tell("""
            signal.signal(signal.SIGUSR1, lambda *_: me.export("signalled", b""))
            region = me.named_import_sync(me.root, "late")
        """)
        await worker.asleep()
        worker.task.send_signal(10)
        await root.named_import(worker.task, "signalled")
        root.export("late", b"late")
        await worker.answer()
        assert await worker.do("bytes(region.view())") == b"late"


async def test_task_whose_root_is_killed_goes_with_it() -> None:
    done = run_python(
        """
        import asyncio, os, sys
        import aiopip
        async def main():
            async with aiopip.Root() as root:
                root.export("data", bytearray(10))
                task = await root.spawn(sys.executable, "-c", '''if True:
                    import aiopip
                    me = aiopip.this_task()
                    me.export("up", me.named_import_sync(me.root, "data"))
                    me.named_import_sync(me.root, "never")
                ''', cwd="/")
                await task.named_import("up")
                print(task.pid, flush=True)
                os.kill(os.getpid(), 9)
        asyncio.run(main())
        """
    )
    assert (done.returncode, done.stderr) == (-9, "")
    pid = int(done.stdout)
    await until(lambda: is_gone(pid))
