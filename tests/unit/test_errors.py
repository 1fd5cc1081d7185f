"""The tree of errors: classes, texts, copies."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re
from concurrent.futures import BrokenExecutor

import pytest

import aiopip
from aiopip import _engine, _errors, _remote_errors, _spawn_errors, _worker_errors
from aiopip._errors import AiopipError, CallError, call_error
from aiopip._records import Failed, Failure
from aiopip._spawn_errors import spawn_error

NUMBERS = [errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EBADF, errno.EAGAIN]
SAMPLES: list[AiopipError] = [
    aiopip.ClosedError(),
    aiopip.ForkedError(),
    aiopip.WrongThreadError(),
    aiopip.InvalidArgumentError("cwd", "it has a NUL"),
    aiopip.NotCastError(),
    aiopip.NotPicklableError("jobs.render", "argument 2 ('lock'), a _thread.lock,", "no"),
    aiopip.RemoteError("jobs.Problem", "no"),
    aiopip.BrokenPoolError(3, aiopip.ExitStatus(9)),
    aiopip.WorkerDiedError(3, aiopip.ExitStatus(9), "out of luck\n"),
    aiopip.NotInitializedError(),
    aiopip.NotPermittedError("no"),
    aiopip.TaskTimeoutError("sort", 1.5, b"out", b"why\n"),
    aiopip.UnsupportedLoopError(),
    aiopip.RootBusyError(),
    aiopip.SlotBusyError(None, 4),
    aiopip.SlotBusyError(3, 4),
    aiopip.AlreadyExportedError("grid"),
    aiopip.TasksAliveError(3),
    aiopip.WouldBlock("not yet"),
    aiopip.NoTasksError(),
    aiopip.TaskEndedError("sort", 3),
    aiopip.GroupNotFoundError(4711),
    aiopip.InvalidTaskError(None),
    aiopip.InvalidRegionError(4096, 8, "task 'sort'"),
    aiopip.ImportCanceledError("task 'sort'", "grid"),
    aiopip.DeadlockError("it waits for itself"),
    aiopip.OwnerDiedError("task 3 held it"),
    aiopip.AbiMismatchError(2, 1),
    aiopip.EntryNotFoundError("./a.out", "start"),
    call_error(errno.ENOENT, "nothing there", "/x"),
    *[
        spawn_error(Failed(0, 1, failure, number, "detail"), "./a.out", "/bin")
        for failure in Failure
        for number in NUMBERS
    ],
]


def name_of(value: object) -> str:
    return f"{type(value).__name__}-{getattr(value, 'errno', '')}"


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
def test_error_from_call_is_the_oserror_of_its_errno(error: AiopipError) -> None:
    if isinstance(error, CallError):
        assert error.errno is not None
        assert isinstance(error, type(OSError(error.errno, "")))
        assert error.strerror == OSError(error.errno, error.strerror).strerror
    else:
        assert not isinstance(error, OSError)


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_error_survives_copy_and_pickle(error: AiopipError, duplicate: object) -> None:
    assert callable(duplicate)
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
    assert vars(twin) == vars(error)
    for fact in ("errno", "strerror", "filename"):
        assert getattr(twin, fact, None) == getattr(error, fact, None)


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
def test_text_is_a_sentence_without_a_tuple(error: AiopipError) -> None:
    assert str(error) == error.message
    assert len(str(error)) >= 2
    assert "[Errno" not in str(error)
    assert "(2, " not in str(error)


def test_docstring_draws_every_class() -> None:
    classes = {
        name
        for module in (_errors, _spawn_errors, _worker_errors, _remote_errors, _engine)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, AiopipError)
    }
    tree = (_errors.__doc__ or "").partition("AiopipError")[2].partition("All of them")[0]
    drawn = set(re.findall(r"(?:\|--|`--) (\w+)", tree)) | {"AiopipError"}
    assert drawn == classes
    assert classes <= set(aiopip.__all__)


def test_every_class_has_a_sample() -> None:
    sampled = {type(error).__name__ for error in SAMPLES} | {"AiopipError", "TaskFailed"}
    assert {
        name for name in aiopip.__all__ if name.endswith(("Error", "Block", "Failed"))
    } == sampled


def test_worker_died_is_a_broken_executor() -> None:
    assert issubclass(aiopip.WorkerDiedError, BrokenExecutor)


@pytest.mark.parametrize(
    ("failure", "number", "kind", "builtin"),
    [
        (Failure.PROGRAM, errno.ENOENT, aiopip.ProgramNotFoundError, FileNotFoundError),
        (Failure.PROGRAM, errno.EACCES, aiopip.NotExecutableError, PermissionError),
        (Failure.PROGRAM, errno.ENOTDIR, aiopip.SpawnError, NotADirectoryError),
        (Failure.DIRECTORY, errno.EACCES, aiopip.NotExecutableError, PermissionError),
        (Failure.PERMISSION, errno.EACCES, aiopip.NotExecutableError, PermissionError),
        (Failure.PRIVILEGED, errno.EPERM, aiopip.PrivilegedProgramError, PermissionError),
        (Failure.INTERPRETER, errno.ENOENT, aiopip.InterpreterNotFoundError, FileNotFoundError),
        (Failure.INTERPRETER, errno.EACCES, aiopip.NotExecutableError, PermissionError),
        (Failure.INTERPRETER, errno.ENOEXEC, aiopip.BadProgramError, OSError),
        (Failure.NOT_PIE, errno.ENOEXEC, aiopip.NotPieError, OSError),
        (Failure.LIBPYTHON, errno.ENOEXEC, aiopip.NotPieError, OSError),
        (Failure.STATIC, errno.ENOEXEC, aiopip.BadProgramError, OSError),
        (Failure.TRUNCATED, errno.ENOEXEC, aiopip.BadProgramError, OSError),
        (Failure.MALFORMED, errno.ENOEXEC, aiopip.BadProgramError, OSError),
        (Failure.MACHINE, errno.ENOEXEC, aiopip.BadProgramError, OSError),
        (Failure.ARGUMENTS, errno.E2BIG, aiopip.ArgumentsTooLongError, OSError),
        (Failure.CWD, errno.ENOENT, aiopip.SpawnOptionError, FileNotFoundError),
        (Failure.CWD, errno.ENOTDIR, aiopip.SpawnOptionError, NotADirectoryError),
        (Failure.STDOUT, errno.EBADF, aiopip.SpawnOptionError, OSError),
        (Failure.MAPPINGS, errno.ENOMEM, aiopip.OutOfMappingsError, OSError),
        (Failure.CLONE, errno.EAGAIN, aiopip.SpawnError, BlockingIOError),
        (Failure.WATCH, errno.EMFILE, aiopip.SpawnError, OSError),
    ],
)
def test_failure_has_its_class_and_errno(
    failure: Failure, number: int, kind: type[aiopip.SpawnError], builtin: type[OSError]
) -> None:
    error = spawn_error(Failed(0, 1, failure, number, "detail"), "./a.out", "/bin")
    assert type(error).__name__ == kind.__name__
    assert isinstance(error, kind)
    assert isinstance(error, builtin)
    assert error.errno == number
    assert "./a.out" in str(error)


@pytest.mark.parametrize(
    ("failure", "number", "says"),
    [
        (Failure.NOT_PIE, errno.ENOEXEC, "-fPIE -pie"),
        (Failure.NOT_PIE, errno.ENOEXEC, "root.create_subprocess_exec"),
        (Failure.LIBPYTHON, errno.ENOEXEC, "--enable-shared"),
        (Failure.MAPPINGS, errno.ENOMEM, "vm.max_map_count"),
        (Failure.MAPPINGS, errno.ENOMEM, "64531 of 65530"),
        (Failure.WATCH, errno.EMFILE, "RLIMIT_NOFILE"),
        (Failure.CLONE, errno.EAGAIN, "RLIMIT_NPROC"),
        (Failure.CWD, errno.ENOENT, "cwd: '64531 of 65530': No such file"),
        (Failure.INTERPRETER, errno.ENOENT, "#! line"),
        (Failure.STATIC, errno.ENOEXEC, "-static"),
        (Failure.PERMISSION, errno.EACCES, "chmod +x"),
    ],
)
def test_text_names_the_way_out(failure: Failure, number: int, says: str) -> None:
    error = spawn_error(Failed(0, 1, failure, number, "64531 of 65530"), "./a.out", "/bin")
    assert says in str(error)


@pytest.mark.parametrize(
    ("libpython", "says"),
    [
        ("libpython3.11.so.1.0", "apt-get install libpython3.11)"),
        ("/My Python/lib/libpython3.11.so.1.0", "blanks and colons"),
    ],
)
def test_python_at_a_fixed_address_is_told_of_its_library(libpython: str, says: str) -> None:
    failed = Failed(0, 1, Failure.LIBPYTHON, errno.ENOEXEC, libpython)
    text = str(spawn_error(failed, "python3", "/bin"))
    assert libpython in text
    assert says in text
    assert "gcc" not in text


def test_program_not_found_says_where_it_was_looked_for() -> None:
    assert "/usr/bin:/bin" in str(aiopip.ProgramNotFoundError("sort", "/usr/bin:/bin"))
    assert "no PATH" in str(aiopip.ProgramNotFoundError("sort", None))
    assert "PATH" not in str(aiopip.ProgramNotFoundError("./sort", "/usr/bin:/bin"))
    assert aiopip.ProgramNotFoundError("./sort").filename == "./sort"


def test_import_canceled_names_keep() -> None:
    assert "keep=True" in str(aiopip.ImportCanceledError("task 'x'", "grid"))
