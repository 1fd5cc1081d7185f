"""A Python task that does what it is told, an expression or statements a line, and answers each.

integration/worker.py is the other side.  `await` may stand in it; all is run in one loop.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import sys
import threading
from typing import Any

import aiopip

loop = asyncio.new_event_loop()
scope: dict[str, Any] = {
    "aiopip": aiopip,
    "asyncio": asyncio,
    "loop": loop,
    "os": os,
    "sys": sys,
    "threading": threading,
}


def run(source: str) -> Any:
    """What the source gives, None for statements."""
    try:
        code = compile(source, "<told>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        code = compile(source, "<told>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(code, scope)
    return loop.run_until_complete(value) if inspect.iscoroutine(value) else value


def literal(value: Any) -> Any:
    """The value, or its repr when it has no literal."""
    try:
        return ast.literal_eval(repr(value))
    except (SyntaxError, ValueError):
        return repr(value)


def answer(source: str) -> tuple[str, ...]:
    """What is answered; it refers to nothing that was made."""
    try:
        return ("value", literal(run(source)))
    except Exception as error:  # noqa: BLE001  that is what is asked for
        scope["raised"] = type(error)
        return ("error", type(error).__name__, str(error))


if __name__ == "__main__":  # it is imported by the workers of its pools
    for line in sys.stdin:
        sys.stdout.write(repr(answer(ast.literal_eval(line))) + "\n")
        sys.stdout.flush()
