"""`pipcc`, the C compiler driver of PiP.

    pipcc [--piproot | --piptask] [--cflags | --lflags | --where | --which] [compiler's options]

It is the C compiler ($CC, else gcc, else cc) with what a PiP program needs: it is compiled and
linked as a position-independent executable whose symbols others can look up (-rdynamic), against
`<pip/pip.h>` and libaiopip.so, which is found at run time where this package lies.  All options
that are not pipcc's own are the compiler's.  The result can be a root, a task, or run by itself, so
--piproot and --piptask, which other implementations need, are taken and change nothing.

`pipcc(1)` of the PiP manual is what this follows.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PIP_VERSION = (2, 4)
"""The version of the C interface that <pip/pip.h> has."""

HELP = """\
usage: pipcc [--piproot | --piptask] [--cflags | --lflags | --where | --which] [CC-OPTIONS]

Compile and link a C program that can run as a PiP task, as a PiP root, and by itself.

  --piproot, --piptask  taken for compatibility: every program can be both
  --cflags              print the options for compiling, and exit
  --lflags              print the options for linking, and exit
  --where               print the folder of <pip/pip.h> and libaiopip.so, and exit
  --which               print the compiler's command, and exit
  --help                print this; `pipcc -v --help` is the compiler's

All else is handed to the compiler: $CC, else gcc, else cc."""

_NO_LINK = frozenset({"-c", "-S", "-E", "-M", "-MM", "-fsyntax-only", "-r"})
_WITH_OPERAND = frozenset({"-o", "-x", "-I", "-L", "-D", "-U", "-l", "-T", "-u", "-z"}).union(
    {"-MF", "-MT", "-MQ", "-include", "-isystem", "-iquote", "-idirafter", "-aux-info"},
    {"-wrapper", "--param", "-Xlinker", "-Xassembler", "-Xpreprocessor"},
)


def pipcc() -> None:
    """Run the C compiler with PiP's options: the command `pipcc`."""
    args = sys.argv[1:]
    if args in (["--help"], ["-h"]):
        print(HELP)
        return
    answers: dict[str, Callable[[], str]] = {
        "--cflags": lambda: shlex.join(compile_flags()),
        "--lflags": lambda: shlex.join(link_flags() + libraries()),
        "--where": package_folder,
        "--which": lambda: shlex.join(compiler()),
    }
    asked = [arg for arg in args if arg in answers]
    if asked:
        for question in asked:
            print(answers[question]())
        return
    line = command(args)
    try:
        os.execvp(line[0], line)
    except OSError as error:
        sys.exit(f"pipcc: cannot run the C compiler {line[0]!r}: {error.strerror}; set CC")


def command(args: list[str]) -> list[str]:
    """The compiler's command line.

    The options of ours come first, so that a later one of the user's wins; the libraries come
    last, since the linker takes from a library only what is missing by then.

    Args:
        args: pipcc's own arguments.
    """
    rest = [arg for arg in args if arg.lstrip("-") not in ("piproot", "piptask")]
    shared = "-shared" in rest
    linking = has_input(rest) and not _NO_LINK.intersection(rest)
    line = compiler() + compile_flags(shared=shared)
    if linking and not shared:
        line += link_flags()
    return line + rest + (libraries() if linking else [])


def has_input(args: list[str]) -> bool:
    """Whether a file is named, so that there is something to link; `pipcc --version` names none."""
    operand = False
    for arg in args:
        if not operand and (arg == "-" or not arg.startswith("-")):
            return True
        operand = not operand and arg in _WITH_OPERAND
    return False


def compiler() -> list[str]:
    """The C compiler's command: $CC, which may have arguments, else gcc, else cc."""
    chosen = shlex.split(os.environ.get("CC", ""))
    return chosen or ["gcc" if shutil.which("gcc") else "cc"]


def compile_flags(*, shared: bool = False) -> list[str]:
    """The options for compiling.

    Args:
        shared: for a shared library, not for a program.
    """
    major, minor = PIP_VERSION
    return [
        "-fPIC" if shared else "-fPIE",
        "-pthread",
        f"-I{package_folder()}/include",
        "-DPIPCC",
        f"-DPIP_VERSION_MAJOR={major}",
        f"-DPIP_VERSION_MINOR={minor}",
    ]


def link_flags() -> list[str]:
    """The options for linking a program."""
    return ["-pie", "-rdynamic"]


def libraries() -> list[str]:
    """The libraries to link with.

    A program that calls nothing of libaiopip.so is not made to load it (--as-needed): each mapping
    of a task slows down every exit in the address space.
    """
    folder = f"{package_folder()}/lib"
    # -Xlinker and not -Wl: the folder's name may have a comma in it.
    needed = ["-Wl,--push-state,--as-needed", "-laiopip", "-Wl,--pop-state"]
    return [f"-L{folder}", "-Xlinker", "-rpath", "-Xlinker", folder, *needed]


def package_folder() -> str:
    """The folder of this package, in which include/ and lib/ are."""
    return str(resources.files("aiopip"))
