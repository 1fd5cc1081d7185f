"""What the package shows, and where it lives."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from importlib import resources
from pathlib import Path

import pytest

import aiopip
from aiopip import _ffi
from aiopip._native import ffi, lib
from aiopip._options import Given
from aiopip._records import Failure
from aiopip._request import SpawnFlags
from aiopip._spawn import SpawnOptions

PACKAGE = Path(str(resources.files("aiopip")))
NATIVE = Path(__file__).parents[2] / "native"


def definitions() -> dict[str, list[str]]:
    """The names that each module of the package defines at its top."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(node.name, []).append(path.stem)
    return found


@pytest.mark.parametrize("name", aiopip.__all__)
def test_public_name_has_one_home(name: str) -> None:
    homes = definitions()[name]
    assert len(homes) == 1
    assert homes[0].startswith("_")
    value = getattr(aiopip, name)
    # A traceback names an error as its users do.
    is_error = inspect.isclass(value) and issubclass(value, aiopip.AiopipError)
    assert value.__module__ == ("aiopip" if is_error else f"aiopip.{homes[0]}")


@pytest.mark.parametrize("name", aiopip.__all__)
def test_public_definition_has_a_docstring(name: str) -> None:
    value = getattr(aiopip, name)
    assert inspect.getdoc(value)
    for part, member in vars(value).items() if inspect.isclass(value) else ():
        if not part.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, property)
        ):
            assert inspect.getdoc(member), f"{name}.{part}"


def users(extension: str) -> set[str]:
    """The modules that import one."""
    return {path.stem for path in PACKAGE.glob("*.py") if f"{extension} import" in path.read_text()}


def test_few_modules_import_the_extensions() -> None:
    assert users("aiopip._native") == {"_ffi", "_ffi_calls", "_decode", "_references"}
    assert users("aiopip._calls") == {"_worker"}


def test_failures_are_those_of_the_header() -> None:
    for failure in Failure:
        assert getattr(lib, f"AIOPIP_FAILED_{failure.name}") == failure
    named = [name for name in dir(lib) if name.startswith("AIOPIP_FAILED_")]
    assert len(named) == len(Failure)


def test_spawn_flags_are_those_of_the_header() -> None:
    for flag in SpawnFlags:
        assert getattr(lib, f"AIOPIP_SPAWN_{flag.name}") == flag
    named = [name for name in dir(lib) if name.startswith("AIOPIP_SPAWN_")]
    assert len(named) == len(SpawnFlags)


def test_options_are_those_of_the_header() -> None:
    for given in Given:
        assert getattr(lib, f"AIOPIP_OPTION_{given.name}") == given
    named = [name for name in dir(lib) if name.startswith("AIOPIP_OPTION_")]
    assert len(named) == len(Given)


def test_spawn_has_all_options_by_name() -> None:
    parameters = inspect.signature(aiopip.Root.spawn).parameters.values()
    keywords = {one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords == SpawnOptions.__required_keys__ | SpawnOptions.__optional_keys__


def test_every_function_of_the_header_is_declared() -> None:
    headers = [path.read_text() for path in sorted((NATIVE / "include").glob("*.h"))]
    code = re.sub(r"/\*.*?\*/", "", "".join(headers), flags=re.DOTALL)
    functions = set(re.findall(r"\b(aiopip_\w+)\(", code))
    assert functions == {name for name in dir(lib) if name.startswith("aiopip_")}


def test_every_statistic_of_the_header_is_a_field() -> None:
    fields = [name for name, _ in ffi.typeof("struct aiopip_statistics").fields]  # type: ignore[attr-defined]
    assert fields == [field.name for field in dataclasses.fields(aiopip.RootStatistics)]


def test_statistics_are_frozen() -> None:
    values = dict.fromkeys((field.name for field in dataclasses.fields(aiopip.RootStatistics)), 0)
    statistics = aiopip.RootStatistics(**values)  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.alive = 1  # type: ignore[misc]


def test_slots_are_as_many_as_the_header_has() -> None:
    assert _ffi.MAX_TASKS == 4096
