"""The main module of the program that owns a pool in its workers, as multiprocessing has it.

What the program's own file defines is named by `__main__`, which in a worker is another program.
So the file is run there once more, under the name `__mp_main__`, by which it can tell:
`if __name__ == "__main__":` is false, and what stands behind it is not done again.
"""

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
    if kind == "name" and (what == "__main__" or what.endswith(".__main__")):
        return  # a package's __main__ has no such guard, and nothing that others need
    main = type(sys)(NAME)
    _Now.importing = True
    try:
        if kind == "path" and not what.endswith(".pyc"):
            _run_script(main, what)
        else:
            main.__dict__.update(_run(kind, what))
    finally:
        _Now.importing = False
    sys.modules["__main__"] = sys.modules[NAME] = main


def _run(kind: str, what: str) -> "dict[str, Any]":
    import runpy

    if kind == "name":
        return runpy.run_module(what, run_name=NAME, alter_sys=True)
    return runpy.run_path(what, run_name=NAME)


def _run_script(main: "Any", path: str) -> None:
    """What `runpy.run_path` does with a script; to import that would take as long as the rest."""
    from io import open_code

    with open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main.__dict__.update(__file__=path, __cached__=None, __package__="")
    sys.modules[NAME] = main
    exec(code, main.__dict__)
