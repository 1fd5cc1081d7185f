"""A Python program that runs as a task: what it exports, and imports from others."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from aiopip._errors import (
    DeadlockError,
    ForkedError,
    ImportCanceledError,
    InvalidArgumentError,
    WouldBlock,
    call_error,
)
from aiopip._exports import Export, Exports
from aiopip._ffi import MAX_TASKS, PIPID_ROOT, Hold, Peer, Word
from aiopip._imports import encode_name
from aiopip._interpreters import Interpreters, Workplace
from aiopip._loop import running_loop
from aiopip._peers import task_peer
from aiopip._region import Region
from aiopip._remote import connection
from aiopip._remote_task import RemoteTask, spawn
from aiopip._signals import SignalStream
from aiopip._waiter import Job, Wait, the_waiter, wait_here, wait_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from aiopip._remote_python import RemotePythonTask
    from aiopip._request import StrOrBytesPath
    from aiopip._spawn import SpawnOptions

T = TypeVar("T")

NO_GENERATION = 0


class RemoteRoot(Interpreters):
    """The root of this task, to import from, and to ask for tasks: `this_task().root`.

    `pool` is as the Root's: its workers are tasks of the Root, which run on this task's memory.
    They are killed when this task ends, or the event loop in which the pool is.

    Thread safety: any thread; to ask for something is for a running event loop.
    """

    __slots__ = ("_pid", "_task_pid")

    def __init__(self, pid: int) -> None:
        """Made by `this_task`."""
        self._pid = pid
        self._task_pid = os.getpid()

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._pid

    async def spawn(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        **options: Unpack[SpawnOptions],
    ) -> RemoteTask:
        """Have the Root start a program as a task: one of the Root's, and no child of this one.

        It is started as by `Root.spawn` in this process: environment, folder, stdin, stdout, stderr
        and all descriptors are this process's, if not given otherwise, and the nice value, the
        processors and the signal mask are the calling thread's.  All else is as in the Root: umask,
        limits, users, session and process group.

        It goes on when this task ends.  Leaving the Root waits for it, or ends it; `Root.tasks` has
        it, and no `wait_any` is given it.

        Args:
            program: what to start.
            args: its arguments, from argv[1] on.
            options: those of `Root.spawn`, but for `share`.  A descriptor that is closed here, 0 to
                2, is /dev/null in the task.  `close_fds=False` passes what is inheritable here.

        Returns:
            The task; it may have ended already.

        Raises:
            SpawnError: as `Root.spawn`, and so InvalidArgumentError and SlotBusyError; `share` and
                more than 252 descriptors are InvalidArgumentError.
            NotPermittedError: this task runs as another user than the Root (EPERM).
            CallError: the Root cannot be asked; its errno and text say why.
            ClosedError: the Root was being left while the task was started.
            ForkedError: this process is a child of the task, made by fork().
            RuntimeError: no event loop runs.

        Cancellation:
            The task is killed and reaped before the cancellation leaves.

        Thread safety: any thread with a running event loop, to which the task belongs.

        Source: `pip_task_spawn(3)`, which the original refuses to tasks; execve(2)
        """
        return await spawn(self._me(), program, args, **options)

    @overload
    async def spawn_python(
        self, function: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> RemotePythonTask[T]: ...

    @overload
    async def spawn_python(
        self, function: str, /, *args: Any, **kwargs: Any
    ) -> RemotePythonTask[Any]: ...

    async def spawn_python(
        self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> RemotePythonTask[Any]:
        """Have the Root start an interpreter that runs one function.

        As `Root.spawn_python` in this process, of which it has the interpreter, `sys.path`,
        environment, folder and standard streams.  Arguments go by reference, and are kept until the
        task has ended.

        It goes on when this task is killed, whose memory stays for it.  An interpreter that ends
        waits for such tasks before, as for those of `multiprocessing`.

        Args:
            function: found by its module and name in the task; "package.module:function"; lambdas
                and closures go by value where cloudpickle is installed.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            The task, whose `result()` is what the function returns.

        Raises:
            NotPicklableError: the function, or an argument, does not pickle.
            InvalidArgumentError: the name of a function is not "module:function".
            NotExecutableError: this Python has no interpreter of its own.
            SpawnError, NotPermittedError, CallError, ClosedError, ForkedError, RuntimeError: as
                `spawn`.

        Cancellation:
            The task is killed and reaped before the cancellation leaves.

        Thread safety: any thread with a running event loop, to which the task belongs.

        Source: `multiprocessing.Process`
        """
        from aiopip._remote_python import spawn_python

        return await spawn_python(self._me(), function, args, kwargs)

    async def spawn_module(
        self, module: str, /, *argv: StrOrBytesPath, **options: Unpack[SpawnOptions]
    ) -> RemoteTask:
        """Have the Root start an interpreter that runs a module, as `python -m` does.

        It has this process's interpreter, options and `sys.path`.

        Args:
            module: its name; of a package `__main__` is run.
            argv: its arguments, from `sys.argv[1]` on.
            options: those of `spawn`.

        Returns:
            The task; that there is no such module is its own error, and its status 1.

        Raises:
            NotExecutableError: this Python has no interpreter of its own.
            SpawnError, NotPermittedError, CallError, ClosedError, ForkedError, RuntimeError: as
                `spawn`.

        Cancellation:
            As `spawn`.

        Source: `runpy.run_module`
        """
        from aiopip._interpreter import module_command

        program, args = module_command(module, argv)
        return await self.spawn(program, *args, **options)

    def _workplace(self) -> Workplace:
        from aiopip._remote_host import RemoteHost

        me = self._me()
        asked = connection(me)
        return Workplace(RemoteHost(asked), me.peer, asked.loop, asked.pools)

    def _me(self) -> ThisTask:
        if os.getpid() != self._task_pid:
            raise ForkedError
        return this_task()

    def __repr__(self) -> str:
        return f"<aiopip.RemoteRoot pid={self._pid}>"

    def __str__(self) -> str:
        return f"the root (process {self._pid})"


class ThisTask:
    """The task that this process is: `aiopip.this_task()`.

    Thread safety: any thread; `named_import` is for a running event loop.
    """

    __slots__ = (
        "__weakref__",
        "_exports",
        "_lock",
        "_peer",
        "_pid",
        "_pipid",
        "_root",
        "_watching",
    )

    def __init__(self, peer: Peer) -> None:
        """Made by `this_task`."""
        self._peer = peer
        self._pid = os.getpid()
        self._pipid = peer.pipid
        self._root = RemoteRoot(os.getppid())
        self._exports = Exports(peer, self._check, self._watch_releases)
        self._lock = threading.RLock()
        self._watching = False
        """Whether a Job waits for what was withdrawn to be given up."""

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._pid

    @property
    def pipid(self) -> int:
        """The PiP ID: the number of its slot in the Root."""
        return self._pipid

    @property
    def root(self) -> RemoteRoot:
        """The root, to import from, and to ask for tasks."""
        return self._root

    @property
    def peer(self) -> Peer:
        """This process as the native core has it; internal."""
        return self._peer

    def export(self, name: str, array: object, *, keep: bool = False) -> Export:
        """Export an array under a name: the root and all tasks may import it, in place.

        The array is kept until it was withdrawn and nobody has it imported any more; without
        `withdraw()` until the task ends.  What is imported by then stays mapped.

        Args:
            name: 1 to 255 bytes of UTF-8 without NUL, which no other export of this task has.
            array: a NumPy array of any type (but objects), shape and strides; anything with the
                buffer protocol; a Region, which passes on what was imported; a `Lock`.  One that
                cannot be written is read only for all.
            keep: whether it outlives the task: the root keeps its memory until the first import of
                it is released, or the Root is left.

        Returns:
            The Export, for `withdraw()`.

        Raises:
            AlreadyExportedError: this task exports something under that name (EBUSY).
            InvalidArgumentError: no such name can be, or the object exposes no memory.
            ForkedError: this process is a child of the task, made by fork().

        Source: `pip_named_export(3)`
        """
        self._check()
        return self._exports.add(name, array, keep=keep)

    async def named_import(self, source: int | RemoteRoot, name: str) -> Region:
        """Import what a task, or the root, exports under a name, once it has.

        Args:
            source: a PiP ID, or `.root`.
            name: 1 to 255 bytes of UTF-8.

        Returns:
            The Region; what C exported has no type, see `Region.cast`.

        Raises:
            ImportCanceledError: the task ended without the export, or its memory is gone
                (ECANCELED).
            DeadlockError: this task has not exported it (EDEADLK).
            InvalidArgumentError: no such PiP ID or name can be.
            ForkedError: this process is a child of the task, made by fork().

        Cancellation:
            Nothing is held.

        Source: `pip_named_import(3)`
        """
        return await self.import_of(source, NO_GENERATION, name)

    async def import_of(self, source: int | RemoteRoot, generation: int, name: str) -> Region:
        """Import as `named_import`, from that task which has the slot by that generation; internal.

        Args:
            source: a PiP ID, or `.root`.
            generation: which use of the slot; 0 for the next one that is there.
            name: 1 to 255 bytes of UTF-8.
        """
        attempt = self._attempt(source, name, generation)
        answer = attempt()
        if isinstance(answer, Wait):
            answer = await wait_in_thread(running_loop(), attempt, _release)
        return Region(answer, source)

    def named_import_sync(
        self, source: int | RemoteRoot, name: str, timeout_s: float | None = None
    ) -> Region:
        """Import what a task, or the root, exports under a name; this thread sleeps until it has.

        Args:
            source: a PiP ID, or `.root`.
            name: 1 to 255 bytes of UTF-8.
            timeout_s: how long to wait, for ever by default.

        Returns:
            The Region.

        Raises:
            TimeoutError: it was not exported in that time (ETIMEDOUT).
            ImportCanceledError, DeadlockError, InvalidArgumentError, ForkedError: as
                `named_import`.

        Source: `pip_named_import(3)`
        """
        what = f"{_name_of(source)} has not exported {name!r}"
        return Region(wait_here(self._attempt(source, name), timeout_s, what), source)

    def named_import_nowait(self, source: int | RemoteRoot, name: str) -> Region:
        """Import what a task, or the root, has exported under a name by now.

        Raises:
            WouldBlock: it has not (EAGAIN).
            ImportCanceledError, InvalidArgumentError, ForkedError: as `named_import`.

        Source: `pip_named_tryimport(3)`
        """
        self._check()
        result = self._peer.named_import(_pipid_of(source), NO_GENERATION, encode_name(name))
        if result == -errno.EAGAIN:
            raise WouldBlock(f"{_name_of(source)} has not exported {name!r} yet")
        return Region(_held(result, source, name), source)

    def signals(self, *signals: int) -> SignalStream:
        """Await signals that are sent to this task, in place of what they did until now.

        They come one by one::

            with me.signals(SIGUSR1, SIGTERM) as numbers:
                async for number in numbers:
                    ...

        Args:
            signals: their numbers, or members of `signal.Signals`.

        Returns:
            The stream: an async iterator, which has all that come from this call on.

        Raises:
            InvalidArgumentError: there is no such signal, or it cannot be caught.
            WrongThreadError: this is not the main thread, where Python receives signals.
            RuntimeError: no event loop runs.

        Source: sigaction(2), `loop.add_signal_handler`, `trio.open_signal_receiver`
        """
        self._check()
        return SignalStream(signals)

    def __repr__(self) -> str:
        return f"<aiopip.ThisTask pipid={self._pipid} pid={self._pid}>"

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedError

    def _attempt(
        self, source: int | RemoteRoot, name: str, generation: int = NO_GENERATION
    ) -> Callable[[], Hold | Wait]:
        """What tries once: a Hold, or what to wait for.

        Which task is meant is settled when it is there for the first time: one that comes later to
        the same slot is another.
        """
        self._check()
        pipid, encoded = _pipid_of(source), encode_name(name)
        generation = NO_GENERATION

        def attempt() -> Hold | Wait:
            nonlocal generation
            # First the word, then the look: what comes in between changes it.
            word = self._peer.expect(pipid)
            if isinstance(word, int):
                return _held(word, source, name)
            generation = generation or self._peer.generation(pipid)
            result = self._peer.named_import(pipid, generation, encoded)
            if result != -errno.EAGAIN:
                return _held(result, source, name)
            if pipid == self._pipid:
                raise DeadlockError(
                    f"this task would wait for itself: it has not exported {name!r}"
                )
            return Wait([word])

        return attempt

    def _watch_releases(self) -> None:
        """Somebody has what was withdrawn: the waiter looks whenever the bell rings.

        One look serves all.  It ends only if, under the lock, nothing is withdrawn; who withdraws
        something has written that down before it comes here.
        """
        with self._lock:
            if self._watching:
                return
            self._watching = True
        try:
            the_waiter().add(Job(self._look_for_releases, _nothing, _nothing))
        except RuntimeError:  # no thread to be had: the next withdrawal tries again
            self._watching = False

    def _look_for_releases(self) -> Wait | None:
        word = self._peer.expect(self._pipid)
        self._exports.collect()
        if not self._exports.awaited() or not isinstance(word, Word):
            with self._lock:
                if not self._exports.awaited() or not isinstance(word, Word):
                    self._watching = False
                    return None
        return Wait([word])


class _Process:
    """What is made once in a process."""

    this_task: ClassVar[dict[str, ThisTask]] = {}


def this_task() -> ThisTask:
    """The task that this process is.

    Returns:
        The same object each time.

    Raises:
        NotInitializedError: this process is no task (EPERM); a child made by fork() is none.
        AbiMismatchError: the root's aiopip has another ABI version (ELIBSCN).

    Thread safety: any thread.

    Source: `pip_init(3)` in a task
    """
    made = _Process.this_task.get("this_task")
    # Of threads that come here at the same time all get what the first one has put there.
    return made or _Process.this_task.setdefault("this_task", ThisTask(task_peer()))


def _pipid_of(source: object) -> int:
    if isinstance(source, RemoteRoot):
        return PIPID_ROOT
    if isinstance(source, bool) or not isinstance(source, int) or source < 0:
        raise InvalidArgumentError("source", f"{source!r} is neither a PiP ID nor this_task().root")
    if source >= MAX_TASKS:
        raise _no_slot(source)
    return source


def _no_slot(source: object) -> InvalidArgumentError:
    return InvalidArgumentError("source", f"the Root has no slot {source}")


def _name_of(source: int | RemoteRoot) -> str:
    return str(source) if isinstance(source, RemoteRoot) else f"task {source}"


def _held(result: Hold | int, source: int | RemoteRoot, name: str) -> Hold:
    """What was found; the error when it is minus an errno."""
    if isinstance(result, Hold):
        return result
    owner = _name_of(source)
    if result == -errno.ECANCELED:
        raise ImportCanceledError(owner, name)
    if result == -errno.ERANGE:
        raise _no_slot(source)
    if result == -errno.ESRCH:
        raise ForkedError
    raise call_error(-result, f"importing {name!r} from {owner} failed")


def _release(_: Hold) -> None:
    """A Hold that nobody wants any more goes with the last reference to it."""


def _nothing(_: object) -> None:
    """Nobody waits for it."""


def _in_forked_child() -> None:
    _Process.this_task.clear()


os.register_at_fork(after_in_child=_in_forked_child)
