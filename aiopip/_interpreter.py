"""How an interpreter is started that serves calls: its command line, and what it does first."""

from __future__ import annotations

import functools
import marshal
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopip._ffi import address_of
from aiopip._main_module import alias_main, describe_main
from aiopip._pickling import dump, main_can_be_imported
from aiopip._spawn_errors import NotExecutableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._ffi import Peer
    from aiopip._parcel import Parcel
    from aiopip._request import StrOrBytesPath

ELF = b"\x7fELF"
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
"""Where this package is."""


class Setup(NamedTuple):
    """What a worker does before its first call, to be kept as long as one may be started.

    Attributes:
        path: the sys.path that is in `data`.
        data: what the worker reads: see `aiopip._worker.prepare`.
        initializer: the memory to which that points in turn.
    """

    path: list[str]
    data: bytes
    initializer: Parcel | None


def make_setup(
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    dump_initializer: Callable[[object], Parcel] = dump,
) -> Setup:
    """What workers of this program do first.

    Args:
        initializer: called in each worker before its first call.
        initargs: with what.
        dump_initializer: how both are pickled.
    """
    alias_main()
    packed = None if initializer is None else dump_initializer((initializer, initargs))
    process = sys.modules.get("multiprocessing.process")
    authkey = None if process is None else bytes(process.current_process().authkey)
    main = describe_main() if main_can_be_imported() else None
    begin = packed and (packed.data, packed.table)
    path = _path()
    setup: Any = path, [str(one) for one in sys.argv], main, authkey, begin
    # Not pickled: a worker that has no initializer does without `pickle` so far.
    return Setup(path, marshal.dumps(setup), packed)


def command(worker: str, setup: Setup) -> tuple[str, list[str]]:
    """A program and its arguments: this interpreter, as a worker.

    Args:
        worker: arguments of `aiopip._worker.main`, as they stand in a program: the address of the
            queue, which worker of it this is, and the owner's eventfd; `where` the setup is; how
            many calls it runs, as of `_calls.Source.serve`; and `whose` the queue is.  They are
            told of here, since a docstring there is in each worker's memory.
        setup: what it does first.
    """
    path = _path()
    if path != setup.path:
        worker = f"{worker},{path!a}"
    # aiopip may have been found by what was put into sys.path since, and is so at once.
    begin = f"import sys;sys.path.insert(0,{FOLDER!a})"
    code = f"{begin};from aiopip._worker import main;main({worker})"
    return interpreter(), [*flags(), "-X", "aiopip_worker", "-c", code]


def _path() -> list[str]:
    """The sys.path of this process, in any folder."""
    return [str(folder) or os.getcwd() for folder in sys.path]  # noqa: PTH109  as the path has it


def where(setup: Setup) -> str:
    """Where a worker finds what it does first, as an argument of its `main`."""
    return f"{address_of(memoryview(setup.data))},{len(setup.data)}"


def whose(peer: Peer) -> str:
    """Whose memory a worker runs on, as an argument of its `main`."""
    return f"({peer.pipid},{peer.generation(peer.pipid)})"


def module_command(
    module: str, argv: tuple[StrOrBytesPath, ...]
) -> tuple[str, list[StrOrBytesPath]]:
    """The same for `python -m module argv`, with this program's sys.path."""
    code = (
        f"import sys;sys.path[:]={_path()!a};import runpy;"
        f"runpy.run_module({module!r},run_name='__main__',alter_sys=True)"
    )
    return interpreter(), [*flags(), "-c", code, *argv]


def flags() -> list[str]:
    """The options with which this interpreter was started: -O, -X dev, -W ..."""
    return list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # noqa: SLF001


@functools.cache
def interpreter() -> str:
    """The path of this interpreter: of the virtual environment, where it is one's.

    Raises:
        NotExecutableError: there is none, as in a program that embeds Python, or that was frozen.
    """
    # A shim, which is a script, would exec the interpreter, which leaves the space.
    for path in (sys.executable, os.path.realpath(getattr(sys, "_base_executable", "") or "")):
        if path and _is_elf(path):
            return path
    raise NotExecutableError(sys.executable or "sys.executable", "it is no program of its own")


def _is_elf(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  bytes of a path as it stands
            return file.read(len(ELF)) == ELF
    except OSError:
        return False
