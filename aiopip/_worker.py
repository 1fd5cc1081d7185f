"""What an interpreter runs that is a worker of a pool, or a task of one function.

It is started as `python -c "...; from aiopip._worker import main; main(...)"`, many at once, so all
on the way to the first call imports next to nothing, and that to `ready` not even `pickle`.
"""

import sys

from aiopip._calls import Source, memory_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(
    address: int,
    worker: int,
    event_fd: int,
    setup: tuple[int, int],
    limit: int,
    owner: tuple[int, int],
    path: list[str] | None = None,
) -> None:
    """Be a worker, to the end of the process; `_interpreter.command` has the arguments."""
    from _signal import SIGINT, signal  # type: ignore[import-not-found]

    # Ctrl-C is for the root, which ends its workers.  No SIG_IGN: what they start would inherit it.
    signal(SIGINT, lambda *_: None)
    source = Source(address, worker, event_fd, owner)
    status = 1
    try:
        prepare(memory_at(*setup), path)
    except BaseException as error:  # noqa: BLE001  told to who has started it
        from aiopip._serving import failure

        parcel = failure(error, own=1)
        source.ready(parcel.data, parcel.table)
    else:
        source.ready()
        # The list of this folder's files, of which few workers need another one.
        sys.path_importer_cache.pop(__file__.rpartition("/")[0], None)
        try:
            status = source.serve(limit, import_pickle, forget_listings)
        except SystemExit as end:
            status = _status_of(end.code)
        except BaseException as error:  # noqa: BLE001  a signal's handler's, or nothing works here
            sys.excepthook(type(error), error, error.__traceback__)
    # Here `source` lives on, and so do the results that it has lent, to the end of the process:
    # freed, their memory would be unmapped under the views of the owner.
    _leave(status)


def prepare(setup: memoryview, path: list[str] | None) -> None:
    """Become what a process is that multiprocessing has spawned, and run the initializer."""
    import marshal

    sys.path[:], sys.argv, main_module, authkey, initializer = marshal.loads(setup)
    if path is not None:
        sys.path[:] = path
    if authkey is not None:
        AuthKey(authkey).install()
    if main_module is not None:
        from aiopip._main_module import import_main

        import_main(*main_module)
    if initializer is not None:
        import_pickle()
        from aiopip._parcel import load

        data, table = initializer
        function, args = load(data, table, lambda *_: None)
        function(*args)


class AuthKey:
    """A finder ahead of all others, until multiprocessing is imported and told the key.

    To import it for that takes as long as an interpreter's start, and most workers need it not.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._key = key

    def install(self) -> None:
        """Tell multiprocessing, or wait for it to be imported."""
        if "multiprocessing.process" not in sys.modules:
            sys.meta_path.insert(0, self)
            return
        from aiopip._auth_key import tell

        tell(self._key)

    def find_spec(self, name: str, path: "Any", target: "Any" = None) -> "Any":
        """Where that is, and nothing else."""
        if name != "multiprocessing.process":
            return None
        from aiopip._auth_key import find

        return find(self, self._key, path, target)


def import_pickle() -> "Any":
    """The C half of `pickle`, without the modules that it imports and does not use.

    Of `functools` it wants `partial`, which is C's, and gets with it `collections`, `operator` and
    `reprlib`: a fifth of an interpreter's start, while eight of them start.
    """
    import _functools  # type: ignore[import-not-found]

    is_there = sys.modules.setdefault("functools", _functools) is not _functools
    try:
        import _pickle
    finally:
        if not is_there:
            del sys.modules["functools"]
    return _pickle


def forget_listings() -> None:
    """Forget what the importer has listed of folders: it looks again when something is imported."""
    from _frozen_importlib_external import FileFinder

    cache = sys.path_importer_cache
    for folder, finder in list(cache.items()):
        # What others put there stays, and what `importlib.invalidate_caches` may just delete.
        if type(finder) is FileFinder and folder[:1] == "/":
            cache.pop(folder, None)


def _leave(status: int) -> None:
    """End the process, without the interpreter's own end: it would free memory that others see."""
    import atexit
    import os

    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # noqa: SLF001  as multiprocessing's workers do
        atexit._run_exitfuncs()  # noqa: SLF001  likewise
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        os._exit(status)


def _status_of(code: object) -> int:
    """The exit status of a program that raises SystemExit."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)  # noqa: T201  as the interpreter does
    return 1


def _flush(stream: "Any") -> None:
    try:  # noqa: SIM105  contextlib is not loaded here
        stream.flush()
    except (AttributeError, OSError, ValueError):
        pass  # closed, or nobody reads it: nothing is left to be said
