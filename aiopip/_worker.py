"""What an interpreter runs that is a worker of a pool, or a task of one function.

It is started as `python -c "...; from aiopip._worker import main; main(...)"`, many at once, so all
on the way to `ready` imports next to nothing: what a call needs, first of all `pickle`, is imported
while the owner is told.
"""

import sys

from aiopip._calls import CALL, FAILED, STOP, Source, memory_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopip._serving import Worker


def main(
    address: int,
    worker: int,
    event_fd: int,
    setup: tuple[int, int],
    limit: int,
    owner: tuple[int, int],
) -> None:
    """Be a worker, to the end of the process.

    Args:
        address: where the queue is.
        worker: which worker of it this is.
        event_fd: the owner's eventfd.
        setup: address and size of `_interpreter.Setup.data`: what to do before the first call.
        limit: how many calls to run; see `_serving.Worker`.
        owner: PiP ID and generation of the owner; see `Source`.
    """
    from _signal import SIGINT, signal  # type: ignore[import-not-found]

    # Ctrl-C is for the root, which ends its workers.  No SIG_IGN: what they start would inherit it.
    signal(SIGINT, lambda *_: None)
    source = Source(address, worker, event_fd, owner)
    status = 1
    try:
        prepare(memory_at(*setup))
    except BaseException as error:  # noqa: BLE001  told to who has started it
        from aiopip._serving import failure

        parcel = failure(error)
        source.ready(FAILED, parcel.data, parcel.table)
    else:
        source.ready(0, b"", b"")
        server = _make_worker(source, limit)
        status = server.run()
    # Here `server` lives on, and so do the results that it has lent, to the end of the process:
    # freed, their memory would be unmapped under the views of the owner.
    leave(status)


def prepare(setup: memoryview) -> None:
    """Become what a process is that multiprocessing has spawned, and run the initializer."""
    import marshal

    sys.argv, main_module, authkey, initializer = marshal.loads(setup)
    if authkey is not None:
        from aiopip._main_module import AuthKey

        AuthKey(authkey).install()
    if main_module is not None:
        from aiopip._main_module import import_main

        import_main(*main_module)
    if initializer is not None:
        from aiopip._parcel import load

        data, table = initializer
        function, args = load(data, table, lambda *_: None)
        function(*args)


def _make_worker(source: Source, limit: int) -> "Worker | Refusal":
    try:
        from aiopip._serving import Worker
    except BaseException as error:  # noqa: BLE001  told to who calls
        return Refusal(source, error)
    return Worker(source, limit)


class Refusal:
    """A worker that fails all calls, since what serves them cannot be imported.

    It ends when it is told to: were it to end by itself, another one would take its place.
    """

    def __init__(self, source: Source, error: BaseException) -> None:
        """Take why; its traceback goes to stderr."""
        sys.excepthook(type(error), error, error.__traceback__)
        text = str(error).replace("\\", "\\u005c").replace("\n", "\\u000a")
        packed = type(error).__name__.encode(), text.encode("raw_unicode_escape")
        self._source = source
        # A `_remote_errors.PackedError`, as pickle would write it by its oldest protocol.
        self._result = b"(NV%b\nV%b\nVsee the worker's stderr\nt." % packed

    def run(self) -> int:
        """Fail calls to the end; the exit status."""
        while True:
            taken, number, *_ = self._source.take()
            if taken == CALL:
                self._source.finish(number, FAILED, self._result, b"")
            elif taken == STOP:
                return 1


def leave(status: int) -> None:
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


def status_of(code: object) -> int:
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
