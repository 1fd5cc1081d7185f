"""What Python offers that blocks: subprocess.Popen, os.posix_spawn."""

from __future__ import annotations

import os
import signal
import subprocess

from bench.peers.base import Child, Starter


class _PopenChild:
    def __init__(self, line: tuple[str, ...]) -> None:
        self._popen = subprocess.Popen(line)
        self.pid = self._popen.pid

    async def wait(self) -> int:
        return self._popen.wait()

    def kill(self) -> None:
        self._popen.kill()


class _SpawnedChild:
    def __init__(self, line: tuple[str, ...]) -> None:
        self.pid = os.posix_spawn(line[0], line, os.environ)

    async def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Popen(Starter):
    """`subprocess.Popen` and its `wait()`."""

    name = "popen"
    about = "subprocess.Popen"
    blocking = True

    async def start(self, *line: str) -> Child:
        return _PopenChild(line)


class PosixSpawn(Starter):
    """`os.posix_spawn` and `os.waitpid`."""

    name = "posix_spawn"
    about = "os.posix_spawn"
    blocking = True

    async def start(self, *line: str) -> Child:
        return _SpawnedChild(line)
