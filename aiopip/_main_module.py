"""The main module of a program that owns a pool, in its workers, as multiprocessing's spawn has it.

What the program's own file defines is named by `__main__`, which in a worker is another program.
So the file is run there once more, under the name `__mp_main__`, by which it can tell:
`if __name__ == "__main__":` is false, and what stands behind it is not done again.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "__mp_main__"


class _Now:
    """What this process is about."""

    importing = False


def check_not_importing() -> None:
    """Refuse what a main module must not do when a worker imports it.

    Raises:
        NotPermittedError: it is just being imported.
    """
    if _Now.importing:
        from aiopip._errors import NotPermittedError  # no worker needs it in order to start

        raise NotPermittedError(
            "a worker imports the program's main module before it serves calls, and that has "
            "opened a Root or a pool again; put what only the program itself is to do behind "
            'if __name__ == "__main__":'
        )


def describe_main() -> tuple[str, str] | None:
    """How a worker imports this program's main module.

    Returns:
        ("name", a module's name) of what `python -m` has started, ("path", a file's path), or None
        when there is none: an interactive interpreter, -c, a notebook.

    Source: `multiprocessing.spawn.get_preparation_data`
    """
    import os

    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return "name", name
    path: Any = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):  # noqa: PTH113  pathlib costs a start more
        return None
    if os.path.splitext(os.path.basename(path))[0] == "ipython":  # noqa: PTH119, PTH122
        return None
    return "path", os.path.abspath(path)  # noqa: PTH100


def alias_main() -> None:
    """Have results find under the workers' name what this program's main module defines."""
    sys.modules.setdefault(NAME, sys.modules["__main__"])


def import_main(kind: str, what: str) -> None:
    """Import it in a worker.

    Source: `multiprocessing.spawn.prepare`
    """
    import runpy
    from types import ModuleType

    if kind == "name" and (what == "__main__" or what.endswith(".__main__")):
        return  # a package's __main__ has no such guard, and nothing that others need
    _Now.importing = True
    try:
        if kind == "name":
            content = runpy.run_module(what, run_name=NAME, alter_sys=True)
        else:
            content = runpy.run_path(what, run_name=NAME)
    finally:
        _Now.importing = False
    main = ModuleType(NAME)
    main.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[NAME] = main
