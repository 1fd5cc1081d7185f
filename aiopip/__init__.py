"""aiopip: Process-in-Process tasks for asyncio.

Real processes that live in one address space with the Python program that started them.

Importing the package loads nothing but `_platform`, and in a worker nothing at all, since many of
these start by it at once: a public name's module is imported when the name is used for the first
time (PEP 562).  So no module of the standard library is imported here either that an interpreter
has not loaded already, and that goes for `__future__` and `typing`.
"""

from sys import _xoptions

if "aiopip_worker" not in _xoptions:  # else its owner has asked
    from aiopip._platform import check_built, check_platform

    check_platform()
    check_built(__path__[0])


def __getattr__(name: str) -> object:
    """Import a public name, which from then on is an ordinary global."""
    from aiopip._public import HOMES

    if name == "__all__":
        value: object = sorted(HOMES)
    elif name in HOMES:
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All names, those too that nobody has used yet."""
    from aiopip._public import HOMES

    return sorted({*globals(), "__all__", *HOMES})
