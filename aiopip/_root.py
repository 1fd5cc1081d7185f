"""The PiP root: the process that starts tasks into its own address space."""

from __future__ import annotations

import signal as signals
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from aiopip._core import Core, Phase
from aiopip._errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidTaskError,
    TasksAliveError,
    seconds,
    whole_number,
)
from aiopip._ffi import MAX_TASKS
from aiopip._group import TaskGroup
from aiopip._interpreter import module_command
from aiopip._interpreters import Interpreters, Workplace
from aiopip._lifetime import close_core, open_core
from aiopip._options import Share
from aiopip._pipes import Pipes
from aiopip._popen import exec_command, shell_command
from aiopip._root_host import RootHost
from aiopip._run import Completed, run
from aiopip._spawn import SpawnOptions, spawn, start

# Loaded now: whoever asks for it may have no descriptor left.
from aiopip._statistics import RootStatistics  # noqa: TC001
from aiopip._task import Task

T = TypeVar("T")

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Buffer, Self, Unpack

    from aiopip._descriptors import FileOrDescriptor, Stdio
    from aiopip._events import EventStream
    from aiopip._exports import Export
    from aiopip._options import Argument, Limit, RareOptions
    from aiopip._python_task import PythonTask
    from aiopip._region import Region
    from aiopip._request import Environment, StrOrBytesPath


class Root(Interpreters):
    """The PiP root of this process, open as long as its `async with` block.

    One Root may be open in a process at a time, and each is entered once.  It belongs to the event
    loop in which it was entered.

    Leaving the block waits for all tasks.  Leaving it by an exception, or being cancelled while it
    waits, sends them SIGTERM (and SIGCONT, for those that are stopped), after `grace_s` SIGKILL,
    and waits until all are reaped.  A second cancellation or KeyboardInterrupt sends SIGKILL at
    once, and waits all the same.  So no task outlives the block.  Spawns that other coroutines have
    under way at that moment fail with ClosedError, and what they started is killed and reaped.

    Args:
        max_tasks: how many tasks may be alive at once, 1 to 4096.
        mode: the execution mode; "process" is the one there is.
        grace_s: seconds between SIGTERM and SIGKILL, 0 for SIGKILL at once.

    Raises:
        InvalidArgumentError: one of these is out of its range.

    Thread safety: the loop's thread only; other threads get WrongThreadError.

    Source: `pip_init(3)`, `pip_fin(3)`
    """

    __slots__ = ("__weakref__", "_core", "_grace_s", "_max_tasks")

    def __init__(
        self,
        *,
        max_tasks: int = 1024,
        mode: Literal["process"] = "process",
        grace_s: float = 5.0,
    ) -> None:
        max_tasks = whole_number("max_tasks", max_tasks)
        if not 1 <= max_tasks <= MAX_TASKS:
            raise InvalidArgumentError("max_tasks", f"{max_tasks} is not within 1 and {MAX_TASKS}")
        if mode != "process":
            raise InvalidArgumentError("mode", f"{mode!r} is unknown; 'process' is all there is")
        self._max_tasks = max_tasks
        self._grace_s = seconds("grace_s", grace_s)
        self._core: Core | None = None

    @property
    def max_tasks(self) -> int:
        """How many tasks may be alive at once."""
        return self._max_tasks

    @property
    def tasks(self) -> Mapping[int, Task]:
        """The tasks that run, or that have ended and nobody has collected, by PiP ID; a snapshot.

        A PiP ID is free again when its task's memory is gone, collected or not.  Where two tasks
        have one, it is the later one's here.
        """
        core = self._open()
        return MappingProxyType({state.pipid: task for state, task in core.collector.open.items()})

    async def __aenter__(self) -> Self:
        """Open the Root in the running loop.

        Raises:
            RootBusyError: another one is open in this process (EBUSY).
            ClosedError: this one was entered before.
            ForkedError: this process was forked from one in which a Root had been opened.
            CallError: the native core could not be opened; its errno and text say why.
        """
        if self._core is not None:
            raise ClosedError("this Root was entered before; make another one")
        self._core = open_core(self, self._max_tasks, self._grace_s)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        core = self._core
        # Aborted within the block, or this is a forked child, where nothing may be touched.
        if core is None or core.phase is not Phase.OPEN:
            return
        core.check()
        try:
            await core.leave(exc_type is not None)
        finally:
            close_core(core)

    async def spawn(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        argv0: StrOrBytesPath | None = None,
        env: Environment | None = None,
        cwd: StrOrBytesPath | None = None,
        stdin: Stdio = None,
        stdout: Stdio = None,
        stderr: Stdio = None,
        pipid: int | None = None,
        new_session: bool = False,
        process_group: int | None = None,
        stopped: bool = False,
        pass_fds: Iterable[FileOrDescriptor] = (),
        fd_map: Mapping[int, FileOrDescriptor] | None = None,
        close_fds: bool = True,
        cpu: int | Iterable[int] | None = None,
        entry: str | bytes | None = None,
        arg: Argument | None = None,
        share: Share = Share.NONE,
        stack_bytes: int | None = None,
        umask: int | None = None,
        rlimits: Mapping[int, Limit] | None = None,
        nice: int | None = None,
        sigmask: Collection[int] | None = None,
        name: str | bytes | None = None,
        user: str | int | None = None,
        group: str | int | None = None,
        extra_groups: Iterable[str | int] | None = None,
        preexec_fn: None = None,
    ) -> Task:
        """Start a program as a task.

        Returns once the child has applied all its options, just before its ld.so begins; an option
        that cannot be applied raises here.

        Args:
            program: a path, relative to `cwd`, or a name without "/", which is searched in the PATH
                of `env`.  Scripts with a #! line work.  An ELF program must be a
                position-independent executable with an ld.so; a CPython that is none runs where
                its libpython is installed.
            args: its arguments, from argv[1] on.
            argv0: its argv[0]; the program as given by default.
            env: its environment, all of it; this process's own by default.
            cwd: the folder that it starts in; this process's own by default.
            stdin: a descriptor, anything with a `fileno()`, `subprocess.DEVNULL`, or
                `subprocess.PIPE` for a pipe, whose other end is `Task.stdin`; this process's own by
                default.  A file is used from where its descriptor stands: flush it first.  Another
                task's `stdout` is handed on: our end of that pipe is closed.
            stdout: likewise.
            stderr: likewise; `subprocess.STDOUT` for where the task's stdout goes.
            pipid: the PiP ID wanted, 0 to max_tasks - 1; a free one by default.
            new_session: whether it leads a session of its own, without a terminal: setsid(2).
            process_group: 0 for a process group of its own, the ID of a group of this session to
                join that: setpgid(2); this process's own by default.  Not with `new_session`.
            stopped: whether it is stopped (SIGSTOP) before the first instruction of its program;
                `Task.resume()` lets it go.  Leaving the Root waits for it as for any other.
            pass_fds: descriptors or files that it gets by the same numbers.
            fd_map: its numbers, each to the descriptor or file that it is there; any to any, swaps
                and 0 to 2 too.  Numbers lie below the soft limit of open files; what it gets is
                inheritable, whatever it is here.
            close_fds: False has it inherit all descriptors that are inheritable here
                (`os.set_inheritable`), as across an exec.
            cpu: the processor, or the set of processors, that it may run on, by number from 0 on;
                those of the calling thread by default.
            entry: a function of the program, static or not, by its name as the symbol table has it,
                to run in place of main: `int function(void *arg)`, whose result is the exit status.
                Constructors run before it, what atexit has behind it.  Not of scripts.
            arg: what that function gets: bytes, of which it gets a pointer to a copy of its own,
                ended by NUL, that stays as long as the task; or an address, as that of a Region.
                NULL by default.
            share: what it shares with this process in place of a copy: `Share.FILES`, `Share.FS`.
                With the first it has no stdin, stdout, stderr, pass_fds and fd_map of its own, with
                the second no cwd and umask.
            stack_bytes: the size of its first thread's stack, and its soft RLIMIT_STACK; from
                256 KiB on.  By default it is as large as that limit, 8 MiB where that is above
                64 MiB.
            umask: the permissions that files it makes do not get, 0 to 0o777; this process's by
                default.
            rlimits: `resource.RLIMIT_*` to a soft limit, whose hard one stays as it is, or to a
                pair of soft and hard limit; `resource.RLIM_INFINITY` is none.  The others are as
                in this process.  RLIMIT_AS and RLIMIT_DATA count the memory of root and tasks
                together.
            nice: its nice value, -20 to 19, itself and not what is added; the calling thread's by
                default.
            sigmask: the signals that are blocked in it; the calling thread's mask by default.
            name: what `ps` shows as its name (comm), 1 to 15 bytes, and `Task.name`; the last part
                of the program's path by default.
            user: all of its user IDs; a name is looked up at once, which may block where users
                come from a network.  It is no wall: a task can write all of our memory, and so can
                who may trace that user's processes.
            group: all of its group IDs.
            extra_groups: its further groups; without it they stay, as `group` does.
            preexec_fn: refused; the error says what to use instead.

        The child applies them in this order: session and process group; descriptors; `cwd`;
        `umask`; limits; processors, scheduling, `nice`; groups and user; name;
        signal mask.  So `cwd` and descriptors are this process's to reach, as with subprocess, the
        program is the user's, and `nice` and limits may take privileges that the user lacks.

        Returns:
            The task; it may have ended already.

        Raises:
            ProgramNotFoundError: no such program, or InterpreterNotFoundError: no interpreter
                for it (ENOENT).
            NotExecutableError: a directory, or no permission (EACCES).
            PrivilegedProgramError: set-uid, set-gid or file capabilities (EPERM).
            NotPieError, BadProgramError: it cannot be a task (ENOEXEC).
            EntryNotFoundError: it has no function of that name, or that cannot be run (ENOEXEC).
            SpawnOptionError: an option cannot be applied; `.option` names it, its errno says why.
            ArgumentsTooLongError: more than execve(2) takes (E2BIG).
            OutOfMappingsError: vm.max_map_count is nearly reached (ENOMEM).
            SlotBusyError: the PiP ID is taken, or none is free (EBUSY).
            SpawnError: another step failed; its errno says why.
            InvalidArgumentError: a value that cannot be; a NUL in an argument.
            ClosedError: the Root is closed, or was being left while the task was started.

        Cancellation:
            The child is killed and reaped before the cancellation leaves.

        Thread safety: loop thread only.

        Source: `pip_task_spawn(3)`, execve(2)
        """
        rare: RareOptions = {}
        if (
            pass_fds
            or fd_map
            or not close_fds
            or cpu is not None
            or entry is not None
            or arg is not None
            or share
            or stack_bytes is not None
            or umask is not None
            or rlimits is not None
            or nice is not None
            or sigmask is not None
            or name is not None
            or user is not None
            or group is not None
            or extra_groups is not None
            or preexec_fn is not None
        ):
            rare = {
                "pass_fds": pass_fds,
                "fd_map": fd_map,
                "close_fds": close_fds,
                "entry": entry,
                "arg": arg,
                "share": share,
                "user": user,
                "group": group,
                "extra_groups": extra_groups,
                "preexec_fn": preexec_fn,
                "cpu": cpu,
                "stack_bytes": stack_bytes,
                "umask": umask,
                "rlimits": rlimits,
                "nice": nice,
                "sigmask": sigmask,
                "name": name,
            }
        return await spawn(
            self._open(),
            None,
            program,
            args,
            argv0=argv0,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pipid=pipid,
            new_session=new_session,
            process_group=process_group,
            stopped=stopped,
            **rare,
        )

    async def run(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        input: Buffer | None = None,  # noqa: A002  subprocess.run's
        check: bool = True,
        timeout_s: float | None = None,
        **options: Unpack[SpawnOptions],
    ) -> Completed:
        """Run a program to its end, and give what it wrote.

        It is started as by `spawn`, but its stdout and stderr are pipes by default, and what cannot
        be a task runs all the same, as with `create_subprocess_exec`.  Its input is fed and both
        outputs are received at once, all of them into memory.  As `subprocess.run` does, it waits
        for the ends of the pipes: for what the program has left running with them, too.

        Args:
            program: what to start.
            args: its arguments, from argv[1] on.
            input: bytes for its stdin, which is a pipe then; a program that does not read all of it
                is no error.
            check: whether a status other than 0 is an error.
            timeout_s: seconds from the call to the end; behind them the program is killed.
            options: those of `spawn`.

        Returns:
            The status, and what it wrote.

        Raises:
            TaskFailed: it ended with another status than 0, with `check`; what it wrote is there.
            TaskTimeoutError: it did not end in time (ETIMEDOUT, TimeoutError); what it wrote until
                then is there.
            InvalidArgumentError: `input` and `stdin` are both given.
            SpawnError: as `spawn`.

        Cancellation:
            The program is killed and reaped before the cancellation leaves.

        Thread safety: loop thread only.

        Source: `subprocess.run`, `anyio.run_process`
        """
        core = self._open()
        begin = partial(start, core, None)
        return await run(
            core, begin, program, args, input=input, check=check, timeout_s=timeout_s, **options
        )

    async def create_subprocess_exec(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        stdin: Stdio = None,
        stdout: Stdio = None,
        stderr: Stdio = None,
        limit: int = 2**16,
        **options: Any,
    ) -> Process:
        """Start a program as `asyncio.create_subprocess_exec` does, as a task where it can be one.

        What cannot be a task (linked at a fixed address or statically, set-uid, not readable, of
        another architecture) is executed in a process with a memory of its own, with the same
        options, and waited for likewise.  `root.tasks` has the Task of either, and no `wait_any`
        is given it.  Like all tasks it lives no longer than the Root.

        Args:
            program: what to start; as for `spawn`.
            args: its arguments, from argv[1] on.
            stdin: as for `spawn`; of PIPE the other end is the `stdin` of the Process, a
                `asyncio.StreamWriter`.
            stdout: likewise, an `asyncio.StreamReader`.
            stderr: likewise; `STDOUT` for where stdout goes.
            limit: how much the readers buffer before they pause the program.
            options: the keywords of `subprocess.Popen` that asyncio takes, but for `preexec_fn` and
                `restore_signals=False`; and options of `spawn`.

        Returns:
            An `asyncio.subprocess.Process`.

        Raises:
            UnsupportedLoopError: trio runs, which has no such streams; use `run` or `spawn`.
            ValueError: a keyword that asyncio refuses, as text=True.
            SpawnError: as `spawn`; each is the OSError that asyncio raises.

        Cancellation:
            The process is killed and reaped before the cancellation leaves.

        Thread safety: loop thread only.

        Source: `asyncio.create_subprocess_exec`
        """
        from aiopip._process import create

        core = self._open()
        return await create(
            core, exec_command(program, args, options), stdin, stdout, stderr, limit
        )

    async def create_subprocess_shell(
        self,
        cmd: str | bytes,
        stdin: Stdio = None,
        stdout: Stdio = None,
        stderr: Stdio = None,
        limit: int = 2**16,
        **options: Any,
    ) -> Process:
        """Run a command by /bin/sh as `asyncio.create_subprocess_shell` does.

        All else is as with `create_subprocess_exec`; `executable` is another shell.

        Args:
            cmd: the command; quote what comes from others (`shlex.quote`).
            stdin: as there.
            stdout: as there.
            stderr: as there.
            limit: as there.
            options: as there.
        """
        from aiopip._process import create

        core = self._open()
        return await create(core, shell_command(cmd, options), stdin, stdout, stderr, limit)

    def task_group(self, *, grace_s: float | None = None) -> TaskGroup:
        """Tasks that live no longer than a block: `async with root.task_group() as group:`.

        Args:
            grace_s: seconds between SIGTERM and SIGKILL when the group is ended, 0 for SIGKILL at
                once; the Root's by default.

        Returns:
            The group, to be entered once.

        Raises:
            InvalidArgumentError: `grace_s` is out of its range.
            ClosedError: the Root is closed.

        Thread safety: loop thread only.
        """
        grace = self._grace_s if grace_s is None else seconds("grace_s", grace_s)
        return TaskGroup(self._open(), grace)

    async def wait_any(self) -> Task:
        """Wait for the next task to end, and collect it.

        Each task is given to one caller, in the order in which they ended; one that was collected
        otherwise, or that has a `wait()` pending at its end, is not given; nor is one that was
        started by `run` or by `create_subprocess_exec` and its like.

        Returns:
            The task; its `status` is set.

        Raises:
            NoTasksError: no task is left, or the last one was collected by somebody else meanwhile
                (ECHILD).

        Cancellation:
            No task is lost: the next call gets it.

        Thread safety: loop thread only.

        Source: `pip_wait_any(3)`
        """
        return await self._open().collector.wait_any()

    def wait_any_nowait(self) -> Task:
        """Collect the task that ended first of those that nobody has collected.

        Raises:
            WouldBlock: all that are left run (EAGAIN).
            NoTasksError: no task is left (ECHILD).

        Source: `pip_trywait_any(3)`
        """
        return self._open().collector.wait_any_nowait()

    async def named_import(self, task: Task, name: str) -> Region:
        """Import what a task exports under a name, once it has: `Task.named_import`.

        Raises:
            InvalidTaskError: not a task of this Root (EINVAL).
        """
        return await self._own(task).named_import(name)

    def named_import_nowait(self, task: Task, name: str) -> Region:
        """Import what a task has exported by now: `Task.named_import_nowait`.

        Raises:
            InvalidTaskError: not a task of this Root (EINVAL).
        """
        return self._own(task).named_import_nowait(name)

    def export(self, name: str, array: object) -> Export:
        """Export an array under a name: all tasks may import it, in place.

        The array is kept until it was withdrawn and no task has it imported any more; without
        `withdraw()` until the Root is left.

        Args:
            name: 1 to 255 bytes of UTF-8 without NUL, which no other export of the Root has.
            array: a NumPy array of any type (but objects), shape and strides; anything with the
                buffer protocol; a Region, which passes on what was imported; a `Lock`.  One that
                cannot be written is read only for all.

        Returns:
            The Export, for `withdraw()`.

        Raises:
            AlreadyExportedError: the Root exports something under that name (EBUSY).
            InvalidArgumentError: no such name can be, or the object exposes no memory.
            ClosedError: the Root is closed.

        Thread safety: loop thread only.

        Source: `pip_named_export(3)`
        """
        return self._open().exports.add(name, array)

    def kill_all(self, signal: int = signals.SIGKILL) -> None:
        """Send all live tasks a signal; that there are none is no error.

        Source: `pip_kill_all_child_tasks(3)`
        """
        self._open().kill_all(signal)

    def signal_group(self, group: int | Task, signal: int) -> None:
        """Send a signal to all processes of a process group: tasks, their children, and others.

        It must be a group in which a live task of this Root is: then the number cannot have become
        that of somebody else's group.

        Args:
            group: a process group's ID, or a task, whose group is meant.
            signal: its number, or a member of `signal.Signals`.

        Raises:
            GroupNotFoundError: no live task of this Root is in that group (ESRCH,
                ProcessLookupError).
            TaskEndedError: the task has ended (ESRCH, ProcessLookupError).
            InvalidTaskError: it is no task of this Root (EINVAL).
            InvalidArgumentError: it is this process's own group, or no group; there is no such
                signal.
            NotPermittedError: all of them run as other users (EPERM).

        Thread safety: loop thread only.

        Source: kill(2), killpg(3)
        """
        core = self._open()
        signal = whole_number("signal", signal)
        if isinstance(group, Task):
            self._own(group).signal_group(signal)
        else:
            core.kill_group(whole_number("group", group), signal)

    def abort(self) -> None:
        """Kill and reap all tasks at once and close the Root, without giving others a turn.

        It blocks the loop until the tasks are reaped, a second at the most.  Whoever waits for one
        of them gets its status; the block's own exit does nothing afterwards.

        Raises:
            TasksAliveError: tasks were left that do not die, in an uninterruptible sleep (EBUSY).

        Source: `pip_abort(3)`, which ends the root too
        """
        core = self._open()
        left = core.abort()
        close_core(core)
        if left > 0:
            raise TasksAliveError(left)

    def events(self) -> EventStream:
        """What happens to tasks from now on: `Exited`, `Stopped`, `Continued`, `Exported`.

        Each stream has all events, however tasks are collected.  It keeps those that were not
        fetched without limit, and ends when the Root is closed.  While there is one, a thread waits
        for stops: see docs/limits.md for what escapes it.

        Returns:
            An async iterator.

        Raises:
            CallError: that thread cannot be started; its errno says why.
        """
        return self._open().listeners.listen()

    def trim(self) -> None:
        """Give back the memory that is kept for programs that may be started again.

        It goes by itself a quarter of a second after the last spawn. `statistics().warm` says how
        many windows are kept; it is 0 soon after this call.

        Raises:
            ClosedError: the Root is not open.
        """
        self._open().client.trim()

    def statistics(self) -> RootStatistics:
        """The state of the native core at this moment."""
        return self._open().client.statistics()

    @overload
    async def spawn_python(
        self, function: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> PythonTask[T]: ...

    @overload
    async def spawn_python(
        self, function: str, /, *args: Any, **kwargs: Any
    ) -> PythonTask[Any]: ...

    async def spawn_python(
        self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> PythonTask[Any]:
        """Start an interpreter as a task that runs one function.

        It has this program's interpreter, `sys.path`, virtual environment and environment
        variables, and imports the main module as `multiprocessing` does, by the name `__mp_main__`.
        Arguments go by reference as those of `Pool.run` do, and are kept until the task has ended.

        Args:
            function: found by its module and name in the task; "package.module:function"; lambdas
                and closures go by value where cloudpickle is installed.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            The task, whose `result()` is what the function returns.

        Raises:
            NotPicklableError: the function, or an argument, does not pickle.
            InvalidArgumentError: the name of a function is not "module:function"; `out` would be
                copied, or is read only.
            NotExecutableError: this Python has no interpreter of its own.
            SlotBusyError, OutOfMappingsError, SpawnError, ClosedError: as `spawn`.

        Cancellation:
            The child is killed and reaped before the cancellation leaves.

        Thread safety: loop thread only.

        Source: `multiprocessing.Process`
        """
        from aiopip._python_task import PythonTask

        core = self._open()
        errand = core.python.begin(function, args, kwargs)
        try:
            with Pipes(errand.program, None, None, None) as pipes:
                request = errand.request(pipes.stdio, core.max_tasks)
                task = await core.spawn(
                    request,
                    pipes,
                    None,
                    make=partial(PythonTask, result=errand.result),
                    on_end=errand.ended,
                )
        except BaseException:
            errand.failed()
            raise
        return cast("PythonTask[Any]", task)

    async def spawn_module(
        self, module: str, /, *argv: StrOrBytesPath, **options: Unpack[SpawnOptions]
    ) -> Task:
        """Start an interpreter as a task that runs a module, as `python -m` does.

        It has this program's interpreter, options and `sys.path`.

        Args:
            module: its name; of a package `__main__` is run.
            argv: its arguments, from `sys.argv[1]` on.
            options: those of `spawn`.

        Returns:
            The task; that there is no such module is its own error, and its status 1.

        Raises:
            NotExecutableError: this Python has no interpreter of its own.
            SpawnError, ClosedError: as `spawn`.

        Cancellation:
            As `spawn`.

        Source: `runpy.run_module`
        """
        program, args = module_command(module, argv)
        return await self.spawn(program, *args, **options)

    def _workplace(self) -> Workplace:
        core = self._open()
        return Workplace(RootHost(core), core.peer, core.loop, core.pools)

    def __repr__(self) -> str:
        if self._core is None:
            return f"<aiopip.Root not entered max_tasks={self._max_tasks}>"
        state = f"{self._core.phase.value} max_tasks={self._max_tasks}"
        return f"<aiopip.Root {state} alive={len(self._core.live)}>"

    def _open(self) -> Core:
        if self._core is None:
            raise ClosedError("the Root is not open yet: `async with aiopip.Root() as root:`")
        self._core.check()
        return self._core

    def _own(self, task: object) -> Task:
        if not isinstance(task, Task) or not task.belongs_to(self._open()):
            raise InvalidTaskError(task)
        return task
