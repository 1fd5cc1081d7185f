"""A function by its name: "package.module:function"."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def call_named(module: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Import a module and call what it has by a name, with dots in it, too."""
    function: Any = import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    return function(*args, **kwargs)
