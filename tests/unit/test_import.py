"""What `import aiopip` loads, and how a public name comes when it is used."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import aiopip
from aiopip._public import HOMES

PACKAGE = Path(str(aiopip.__file__)).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
"""What type checkers see."""


def run_python(code: str) -> str:
    """What a new interpreter prints that runs this."""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def imports() -> dict[str, str]:
    """The names that type checkers see, with their modules."""
    found: dict[str, str] = {}
    for node in STUB:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname is None
                found[alias.name] = (node.module or "").removeprefix("aiopip.")
    return found


# The three lists


def test_every_name_is_in_all_in_the_table_and_imported_for_checkers() -> None:
    [listed] = [ast.literal_eval(node.value) for node in STUB if isinstance(node, ast.Assign)]
    assert list(HOMES) == listed == aiopip.__all__, "they have the same order"
    assert dict(sorted(HOMES.items())) == dict(sorted(imports().items()))


def test_lists_are_sorted() -> None:
    """As ruff sorts: the classes, and behind them the functions."""
    classes = [name for name in aiopip.__all__ if name[0].isupper()]
    functions = [name for name in aiopip.__all__ if name[0].islower()]
    assert aiopip.__all__ == sorted(classes) + sorted(functions)


def test_checkers_do_not_see_that_names_are_looked_up() -> None:
    """They would take any name for one of the package."""
    assert not [node for node in STUB if isinstance(node, ast.FunctionDef)]
    assert hasattr(aiopip, "__getattr__")


# Names


def test_all_is_what_is_there() -> None:
    for name in aiopip.__all__:
        getattr(aiopip, name)
    shown = {
        name
        for name, value in vars(aiopip).items()
        if not name.startswith("_") and getattr(value, "__module__", "") != "aiopip._platform"
    }
    assert shown == set(aiopip.__all__)


def test_name_is_looked_up_once() -> None:
    printed = run_python("""
import aiopip
print("Region" in vars(aiopip), "Region" in dir(aiopip))
region = aiopip.Region
print(vars(aiopip)["Region"] is region, region.__module__)
""")
    assert printed.splitlines() == ["False True", "True aiopip._region"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'aiopip' has no attribute 'nonsense'$"):
        aiopip.nonsense  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'aiopip'"):
        from aiopip import nonsense  # type: ignore[attr-defined]  # noqa: F401


def test_dir_has_every_name() -> None:
    assert set(run_python("import aiopip; print(*dir(aiopip))").split()) >= {
        *aiopip.__all__,
        "__all__",
        "__doc__",
    }


def test_star_import_has_every_name() -> None:
    printed = run_python("""
from aiopip import *
import aiopip
print(all(globals()[name] is getattr(aiopip, name) for name in aiopip.__all__))
""")
    assert printed == "True\n"


@pytest.mark.parametrize("name", aiopip.__all__)
def test_public_name_pickles(name: str) -> None:
    value = getattr(aiopip, name)
    assert pickle.loads(pickle.dumps(value)) is value


# What is loaded


def test_import_loads_nothing_else() -> None:
    """Neither of the package nor of the standard library; an interpreter has loaded `os`."""
    printed = run_python("""
import sys
before = set(sys.modules)
import aiopip
print(*sorted(set(sys.modules) - before))
""")
    assert printed.split() == ["aiopip", "aiopip._platform"]


def test_first_use_loads_nothing_heavy_of_its_own() -> None:
    """What asyncio and anyio load themselves is their affair."""
    printed = run_python("""
import sys, asyncio, asyncio.subprocess, anyio, anyio.abc
before = set(sys.modules)
import aiopip
aiopip.Root, aiopip.create_subprocess_exec
print(*sorted(set(sys.modules) - before))
""")
    heavy = {
        "platform",
        "importlib.resources",
        "tempfile",
        "shutil",
        "zipfile",
        "importlib.metadata",
    }
    assert not heavy & set(printed.split())


def test_every_module_can_be_the_first() -> None:
    """A module that imports one above it works only behind that one."""
    names = sorted(
        os.fspath(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", ".")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    )
    # Forks of one interpreter, each with nothing loaded: a start each would take longer.
    printed = run_python(f"""
import importlib, os, sys, traceback
for name in {names!r}:
    if os.fork() == 0:
        status = 1
        try:
            importlib.import_module(name)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    if os.wait()[1] != 0:
        print(name)
""")
    assert printed == ""


def test_task_that_has_no_pool_loads_none() -> None:
    """A program that asks for its Root does not pay for what it does not ask it for."""
    printed = run_python("""
import sys
import aiopip
aiopip.this_task, aiopip.RemoteRoot
print(*sorted(name for name in sys.modules if name.startswith("aiopip.")))
""")
    loaded = set(printed.split())
    assert "aiopip._remote_task" in loaded
    lazy = {"_pool", "_crew", "_dispatch", "_python_tasks", "_remote_host", "_remote_python"}
    assert not loaded & {f"aiopip.{name}" for name in lazy}
