"""Functions and classes by name and by value, what cannot be pickled, and `__main__`."""

from __future__ import annotations

import copyreg
import pickle
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from unit.parcels import Point, add, address, sent

import aiopip
from aiopip import _reducers
from aiopip._copying import copy
from aiopip._errors import NotPicklableError
from aiopip._parcel import Parcel, load
from aiopip._pickling import dump, main_can_be_imported, name_unpicklable
from aiopip._ref import ref

PACKAGE = Path(aiopip.__file__).parent


@pytest.fixture
def no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


# Functions


def test_functions_and_classes_go_by_name() -> None:
    assert sent((add, Point, len, np.sin)) == (add, Point, len, np.sin)
    assert b"add" in dump(add).data
    assert b"cloudpickle" not in dump(add).data


def test_closures_go_by_cloudpickle_with_arrays_in_place() -> None:
    pytest.importorskip("cloudpickle")
    made = np.arange(3)

    class Local:
        field = made

    function, again, local, view = sent((lambda x: (made, x), made, Local(), ref(bytearray(3))))
    assert function(5)[1] == 5
    assert address(function(5)[0]) == address(again) == address(made)
    assert address(local.field) == address(made)
    assert type(view) is memoryview
    assert sent(copy(lambda: made))() is not made


def test_failed_attempt_leaves_no_keepers() -> None:
    pytest.importorskip("cloudpickle")
    parcel = dump([np.arange(3), lambda: 0])
    assert len(parcel.keepers) == 1


def test_closure_without_cloudpickle_is_refused(no_cloudpickle: None) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="<lambda>"):
        dump(lambda: 0)


def test_error_of_cloudpickle_is_the_one_that_tells() -> None:
    pytest.importorskip("cloudpickle")
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"_thread\.lock"):
        dump(lambda: lock)


def test_errors_of_reduce_pass(no_cloudpickle: None) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        dump(threading.Lock())
    with pytest.raises(ZeroDivisionError):
        dump(Failing())


class Failing:
    def __reduce__(self) -> Any:
        return 1 // 0, ()


def test_reducers_of_copyreg_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Point, lambda point: (Point, ("registered",)))
    assert sent(Point(1)).x == "registered"
    assert sent(copy(Point(1))).x == "registered"


class Nested:
    """Dumps while it is dumped, loads while it is loaded."""

    def __init__(self, data: bytes, table: bytes) -> None:
        self.inner = load(data, table, lambda *_: None)

    def __reduce__(self) -> Any:
        parcel = dump(np.arange(3))
        kept.append(parcel)
        return Nested, (parcel.data, parcel.table)


kept: list[Any] = []


def test_dump_within_dump() -> None:
    again = sent([np.arange(5), Nested(*_parts(dump(np.ones(2)))), np.arange(7)])
    assert [len(again[0]), len(again[1].inner), len(again[2])] == [5, 3, 7]
    kept.clear()


def _parts(parcel: Parcel) -> tuple[bytes, bytes]:
    kept.append(parcel)
    return parcel.data, parcel.table


def test_many_threads_at_once() -> None:
    failures = []

    def work() -> None:
        for number in range(200):
            made = np.arange(number + 1)
            if address(sent([made, Point(made)])[1].x) != address(made):
                failures.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_numpy_that_is_being_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    assert sent([1, 2]) == [1, 2]
    assert _reducers.knows(np)


# Naming what does not pickle


class Named(NamedTuple):
    """A case: what was called, and what the error says."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    says: str


LOCK = threading.Lock()


@pytest.mark.parametrize(
    "case",
    [
        Named(add, (1, LOCK), {}, r"add: argument 2 \('right'\), a _thread\.lock, cannot be pick"),
        Named(add, (1,), {"right": LOCK}, r"add: argument 'right', a _thread\.lock, cannot"),
        Named(print, (1, LOCK), {}, r"builtins\.print: argument 2, a _thread\.lock, cannot"),
        Named(add, (1, 2), {}, "add: a part of the call cannot be pickled"),
        Named(LOCK.acquire, (), {}, r"acquire: the function cannot be pickled"),
    ],
    ids=["position", "keyword", "builtin", "none", "function"],
)
def test_error_names_the_part(case: Named) -> None:
    cause = TypeError("cannot pickle '_thread.lock' object")
    error = name_unpicklable(case.function, case.args, case.kwargs, cause)
    assert isinstance(error, NotPicklableError)
    with pytest.raises(pickle.PicklingError, match=case.says) as caught:
        raise error from cause
    assert isinstance(caught.value, TypeError)
    assert "cannot pickle" in str(error)
    assert "make it in the worker" in str(error)


def test_error_names_cloudpickle_where_it_would_help(no_cloudpickle: None) -> None:
    error = name_unpicklable(lambda: 0, (), {}, TypeError())
    assert "install cloudpickle" in str(error)
    assert "the function" in str(error)


# Programs


def run(code: str, *, as_file: Path | None = None, package: bool = False) -> str:
    """What a program prints, that is given by -c, or as a file."""
    text = textwrap.dedent(code)
    command = [sys.executable, "-c", text]
    if as_file is not None:
        as_file.parent.mkdir(exist_ok=True)
        as_file.write_text(text)
        command = [sys.executable, str(as_file.parent if package else as_file)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


MAIN = """
    import sys
    from aiopip._parcel import load
    from aiopip._pickling import dump, main_can_be_imported
    class Point:
        def __init__(self, x):
            self.x = x
        def double(self):
            return 2 * self.x
    def f(x):
        return Point(x).double()
    print(main_can_be_imported(), end=" ")
    parcels = [dump((f, 21)), dump(Point(4)), dump(lambda: f(21))]
    print(*[b"cloudpickle" in parcel.data for parcel in parcels], end=" ")
    print(b"double" in parcels[2].data, end=" ")
    for parcel in parcels:
        load(parcel.data, parcel.table, None)
"""


def test_main_without_a_file_goes_by_value() -> None:
    pytest.importorskip("cloudpickle")
    assert run(MAIN) == "False True True True True"


def test_main_with_a_file_goes_by_name(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    assert run(MAIN, as_file=tmp_path / "script.py") == "True False False True False"


def test_main_of_a_package_goes_by_value(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    main = tmp_path / "package" / "__main__.py"
    assert run(MAIN, as_file=main, package=True) == "False True True True True"


def test_main_without_a_file_and_cloudpickle_is_refused() -> None:
    code = """
        import sys, pickle
        sys.modules["cloudpickle"] = None
        from aiopip._pickling import dump
        class Point: pass
        def f(): pass
        for each in (f, Point, Point()):
            try:
                dump([each])
            except pickle.PicklingError as error:
                print("install cloudpickle" in str(error), end=" ")
        dump("__main__")
        print("text passes")
    """
    assert run(code) == "True True True text passes"


def test_ipython_s_own_script_is_no_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not main_can_be_imported()
    for name, expected in [("ipython", False), ("job.py", True), ("gone.py", False)]:
        main.__file__ = str(tmp_path / name)
        if name != "gone.py":
            (tmp_path / name).touch()
        assert main_can_be_imported() is expected


def test_nothing_heavy_is_imported() -> None:
    code = f"""
        import functools, sys, types
        package = types.ModuleType("aiopip")
        package.__path__ = [{str(PACKAGE)!r}]
        sys.modules["aiopip"] = package
        before = set(sys.modules)
        from aiopip._parcel import load
        from aiopip._pickling import dump
        parcel = dump((len, [1, 2.0, "x"], {{"y": memoryview(bytearray(3))[::2]}}))
        load(parcel.data, parcel.table, lambda *_: None)
        print(*sorted(set(sys.modules) - before))
    """
    imported = set(run(code).split())
    ours = {"_parcel", "_pickling", "_reducers", "_references", "_native", "_native.lib"}
    # _native is for memory that is referred to.  _pickle imports the names of Python 2's modules.
    pickle_s = {"_pickle", "_compat_pickle", "copyreg", "_functools", "__future__", "_cffi_backend"}
    assert imported - pickle_s == {f"aiopip.{name}" for name in ours}


def test_numpy_that_comes_later_is_learned() -> None:
    code = """
        from aiopip._parcel import load
        from aiopip._pickling import dump
        dump(1)
        import numpy
        made = numpy.arange(3)
        parcel = dump(made)
        again = load(parcel.data, parcel.table, lambda *_: None)
        again[0] = 5
        print(made[0])
    """
    assert run(code) == "5"
