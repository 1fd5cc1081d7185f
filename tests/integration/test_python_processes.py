"""Python programs as tasks: signals, and processes of their own.

Each is run as an ordinary process too, and must not differ.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from integration.pythons import Ran, alike, environment, python, script
from jobs import gather
from support import pipe, ready, until

if TYPE_CHECKING:
    from pathlib import Path

    import aiopip

# Signals

HANDLES = """
    import os, signal, threading
    def show(number, frame):
        # No print: it may come in the midst of the one that says that this is ready.
        os.write(1, signal.Signals(number).name.encode() + b"\\n")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, show)
    print("ready", flush=True)
    while True:
        signal.pause()
"""


async def test_handlers_see_what_the_root_sends(root: aiopip.Root) -> None:
    names = ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP", "SIGCHLD"]
    async with pipe() as made:
        task = await root.spawn(*python(HANDLES), stdout=made.writer)
        assert await made.line() == b"ready"
        for name in names:
            task.send_signal(signal.Signals[name])
            assert await made.line() == name.encode()
        task.send_signal(signal.SIGUSR2)
        assert await task.wait() == -signal.SIGUSR2


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGTERM, -signal.SIGTERM, b""),
        (signal.SIGINT, -signal.SIGINT, b"KeyboardInterrupt"),
        (signal.SIGABRT, -signal.SIGABRT, b""),
    ],
)
async def test_signal_that_nobody_handles(
    root: aiopip.Root, tmp_path: Path, number: signal.Signals, status: int, words: bytes
) -> None:
    source = "import time; print('ready', flush=True); time.sleep(1000)"
    with (tmp_path / "err").open("wb") as err:
        task = await ready(root, *python(source), stderr=err)
        task.send_signal(number)
        assert await task.wait() == status
    assert (tmp_path / "err").read_bytes().strip().endswith(words)


async def test_faulthandler_tells_on_request_where_a_task_is(
    root: aiopip.Root, tmp_path: Path
) -> None:
    source = """
        import faulthandler, signal, sys
        faulthandler.register(signal.SIGUSR1, file=open(sys.argv[1], "wb"), all_threads=True)
        def waits():
            print("ready", flush=True)
            while True:
                signal.pause()
        waits()
    """
    told = tmp_path / "told"
    task = await ready(root, *python(source, told))
    task.send_signal(signal.SIGUSR1)
    await until(lambda: b"in <module>" in told.read_bytes())
    assert b" in waits\n" in told.read_bytes()
    task.terminate()
    assert await task.wait() == -signal.SIGTERM


SIGNALS = {
    "alarm": """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: print("rang"))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.pause()
    """,
    "alarm that ends it": """
        import signal
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while True: signal.pause()
    """,
    "timer of its own CPU time": """
        import signal
        hit = []
        signal.signal(signal.SIGPROF, lambda *_: hit.append(1))
        signal.setitimer(signal.ITIMER_PROF, 0.01)
        while not hit: pass
        print(hit)
    """,
    "sigwait": """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
        os.kill(os.getpid(), signal.SIGUSR2)
        print(signal.sigpending(), signal.sigwait([signal.SIGUSR1, signal.SIGUSR2]))
        print(signal.sigtimedwait([signal.SIGUSR1], 0))
    """,
    "one thread": """
        import signal, threading
        signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE))
    """,
    "wake-up descriptor": """
        import os, signal, socket
        left, right = socket.socketpair()
        right.setblocking(False)
        signal.set_wakeup_fd(right.fileno())
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(left.recv(9) == bytes([signal.SIGUSR1]))
    """,
    "its children's SIGCHLD": """
        import os, signal, subprocess
        seen = []
        signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
        for code in range(3):
            print(subprocess.run(["sh", "-c", f"exit {code}"]).returncode, len(seen) > code)
    """,
    "SIGCHLD ignored": """
        import os, signal, subprocess
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        child = os.fork()
        if child == 0: os._exit(3)
        try: os.waitpid(child, 0)
        except ChildProcessError as error: print(error)
    """,
    "KeyboardInterrupt caught": """
        import os, signal
        try: os.kill(os.getpid(), signal.SIGINT); signal.pause()
        except KeyboardInterrupt: print("caught")
    """,
    "process group": """
        import os, signal
        os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, lambda *_: print("group"))
        os.killpg(0, signal.SIGUSR1)
        print(os.getpgrp() == os.getpid())
    """,
    "CPU limit": """
        import resource, signal
        resource.setrlimit(resource.RLIMIT_CPU, (0, 5))
        while True: pass
    """,
}
ENDED_BY = {"alarm that ends it": -signal.SIGALRM, "CPU limit": -signal.SIGXCPU}


@pytest.mark.parametrize("name", SIGNALS)
async def test_signals(root: aiopip.Root, name: str) -> None:
    ran = await alike(root, *python(SIGNALS[name]))
    assert (ran.status, ran.err) == (ENDED_BY.get(name, 0), b"")
    assert bool(ran.out) == (name not in ENDED_BY)


# Processes of a task's own

CHILDREN = {
    "run": """
        import subprocess, sys
        done = subprocess.run(["cat"], input=b"x" * 200_000, capture_output=True)
        print(done.returncode, len(done.stdout))
        print(subprocess.check_output("echo $((6 * 7))", shell=True))
        print(subprocess.run([sys.executable, "-c", "raise SystemExit(9)"]).returncode)
        try: subprocess.run(["sleep", "1000"], timeout=0.01)
        except subprocess.TimeoutExpired: print("timed out")
        try: subprocess.run(["/no/such/program"])
        except FileNotFoundError as error: print(error)
    """,
    "Popen with all options": """
        import os, subprocess, sys
        show = "import os, sys; print(os.getcwd(), os.environ['A'], os.getsid(0) == os.getpid())"
        print(subprocess.check_output(
            [sys.executable, "-c", show], cwd="/tmp", env={**os.environ, "A": "b"},
            start_new_session=True, close_fds=True, restore_signals=True, umask=0o77,
            preexec_fn=lambda: os.nice(3),
        ))
    """,
    "pipeline": """
        import subprocess
        first = subprocess.Popen(["seq", "1000"], stdout=subprocess.PIPE)
        last = subprocess.Popen(["tail", "-n1"], stdin=first.stdout, stdout=subprocess.PIPE)
        first.stdout.close()
        print(last.communicate(), first.wait())
    """,
    "posix_spawn": """
        import os, sys
        actions = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
        for code in range(5):
            pid = os.posix_spawnp("sh", ["sh", "-c", f"echo; exit {code}"], os.environ,
                                  file_actions=actions, setsigmask=[])
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """,
    "fork": """
        import os
        data = bytearray(5_000_000)
        for code in range(5):
            pid = os.fork()
            if pid == 0:
                data[:] = bytes([code]) * len(data)
                more = [bytes(1_000_000) for _ in range(20)]
                os._exit(data[-1] + len(more))
            mine = [bytes([7]) * 1_000_000 for _ in range(20)]
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), data[-1], mine[0] == mine[-1])
    """,
    "fork in fork": """
        import os, subprocess
        def nested(depth):
            pid = os.fork()
            if pid == 0:
                if depth: os._exit(nested(depth - 1) + 1)
                os._exit(subprocess.run(["sh", "-c", "exit 30"]).returncode)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(nested(4))
    """,
    "fork with threads": """
        import os, threading
        stop = threading.Event()
        def churn():
            while not stop.is_set(): bytes(300_000)
        threads = [threading.Thread(target=churn) for _ in range(4)]
        for thread in threads: thread.start()
        for code in range(10):
            pid = os.fork()
            if pid == 0:
                bytes(3_000_000)
                os._exit(threading.active_count() + code)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
    """,
    "thread in a fork": """
        import os, threading
        pid = os.fork()
        found = []
        threads = [threading.Thread(target=lambda: found.append(bytes(9_000))) for _ in range(9)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        if pid == 0: os._exit(len(found))
        print(len(found), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """,
    "system and popen": """
        import os
        print(os.waitstatus_to_exitcode(os.system("exit 4")), os.popen("echo popen").read())
        print(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 6"))
    """,
    "wait": """
        import os
        pids = {os.spawnlp(os.P_NOWAIT, "true", "true") for _ in range(2)}
        print({os.wait()[0], os.waitpid(-1, 0)[0]} == pids)
        try: os.wait()
        except ChildProcessError as error: print(error)
    """,
    "pty": """
        import os, pty
        pid, master = pty.fork()
        if pid == 0: os.execvp("tty", ["tty"])
        print(os.read(master, 100).startswith(b"/dev/pts/"), os.waitpid(pid, 0)[1])
    """,
    "pidfd": """
        import os, select, signal, subprocess
        child = subprocess.Popen(["sleep", "1000"])
        pidfd = os.pidfd_open(child.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
        print(child.wait())
    """,
    "asyncio": """
        import asyncio, sys
        async def one(code):
            line = [sys.executable, "-c", f"print(input()); raise SystemExit({code})"]
            pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            made = await asyncio.create_subprocess_exec(*line, **pipes)
            return (await made.communicate(b"word\\n"))[0], made.returncode
        async def main():
            print(await asyncio.gather(*[one(code) for code in range(3)]))
            print(await asyncio.to_thread(sum, range(10)))
            reader, writer = await asyncio.open_connection(*served.sockets[0].getsockname())
            print(await reader.read())
            writer.close()
        async def serve(reader, writer):
            writer.write(b"served")
            writer.close()
        async def both():
            global served
            served = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with served:
                await main()
        asyncio.run(both())
    """,
}


@pytest.mark.parametrize("name", CHILDREN)
async def test_children(root: aiopip.Root, name: str) -> None:
    # From 3.12 on forking with threads alive is warned of.
    env = environment(PYTHONWARNINGS="ignore::DeprecationWarning")
    ran = await alike(root, *python(CHILDREN[name]), env=env)
    assert (ran.status, ran.err) == (0, b"")
    assert ran.out


MULTIPROCESSING = """
    import concurrent.futures, multiprocessing as mp, os, sys
    from multiprocessing import shared_memory

    def square(number):
        return number * number

    def child(queue, lock, value, name):
        block = shared_memory.SharedMemory(name)
        with lock:
            value.value += 1
            block.buf[value.value] = value.value
        block.close()
        queue.put((mp.parent_process().pid == os.getppid(), bytes(200_000)))

    def main(method):
        context = mp.get_context(method)
        queue, lock, value = context.Queue(), context.Lock(), context.Value("i", 0)
        block = shared_memory.SharedMemory(create=True, size=4096)
        line = (queue, lock, value, block.name)
        processes = [context.Process(target=child, args=line) for _ in range(2)]
        for process in processes: process.start()
        got = [queue.get(timeout=20) for _ in processes]
        for process in processes: process.join(20)
        own = method != "forkserver"  # whose processes are the server's children
        print([(mine == own, len(data)) for mine, data in got])
        print([process.exitcode for process in processes], value.value, bytes(block.buf[:4]))
        block.close()
        block.unlink()
        with context.Pool(2) as pool:
            print(pool.map(square, range(10)))
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            print(list(pool.map(square, range(10))))
        process = context.Process(target=sys.exit, args=(5,))
        process.start()
        process.join(20)
        print(process.exitcode)

    if __name__ == "__main__":
        main(sys.argv[1])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_multiprocessing(root: aiopip.Root, tmp_path: Path, method: str) -> None:
    squares = [n * n for n in range(10)]
    pair = [(True, 200_000)] * 2
    expected = f"{pair}\n[0, 0] 2 {bytes([0, 1, 2, 0])!r}\n{squares}\n{squares}\n5\n"
    line = script(tmp_path / "program.py", MULTIPROCESSING, method)
    assert await alike(root, *line) == Ran(0, expected.encode(), b"")


async def test_multiprocessing_in_several_tasks_at_once(root: aiopip.Root, tmp_path: Path) -> None:
    tasks = []
    with (tmp_path / "err").open("wb") as err:
        for method in ("fork", "spawn", "fork", "forkserver"):
            line = script(tmp_path / "program.py", MULTIPROCESSING, method)
            tasks.append(await root.spawn(*line, stdout=-3, stderr=err, env=environment()))
        assert await gather(*[task.wait() for task in tasks]) == [0, 0, 0, 0]
    assert (tmp_path / "err").read_bytes() == b""
