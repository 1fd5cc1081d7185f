"""The commands that the package installs: `aiopip`, and `pipcc`, the C compiler driver of PiP.

    aiopip doctor [--json]
    aiopip --version

`aiopip_cli`, beside the package, is where `aiopip` is entered.

    pipcc [--piproot | --piptask] [--cflags | --lflags | --where | --which] [compiler's options]

It is the C compiler ($CC, else gcc, else cc) with what a PiP program needs: it is compiled and
linked as a position-independent executable whose symbols others can look up (-rdynamic), against
`<pip/pip.h>` and libaiopip.so, which is found at run time where this package lies.  All options
that are not pipcc's own are the compiler's.  The result can be a root, a task, or run by itself, so
--piproot and --piptask, which other implementations need, are taken and change nothing.

`pipcc(1)` of the PiP manual is what this follows.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from importlib import metadata, resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def aiopip(args: Sequence[str], refusal: str = "") -> int:
    """The command `aiopip`.

    Args:
        args: its arguments.
        refusal: why `import aiopip` fails; empty when it does not.

    Returns:
        The exit status: 0, 1 where `aiopip doctor` found that tasks do not run, or 2 where it could
        not say so.
    """
    parser = argparse.ArgumentParser(
        prog="aiopip", description="Process-in-Process tasks for asyncio."
    )
    parser.add_argument("--version", action="version", version=f"aiopip {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    about = "say what this machine offers to tasks, what it lacks, and what follows from that"
    doctor = commands.add_parser(
        "doctor",
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog="Exit status: 0 when tasks run here, 1 when they do not, 2 when it cannot say so.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    return run_doctor(as_json=parser.parse_args(args).json, refusal=refusal)


def run_doctor(*, as_json: bool, refusal: str) -> int:
    """Examine this machine and print what was found; returns the exit status."""
    from aiopip._doctor import report
    from aiopip._doctor.checks import examine
    from aiopip._doctor.gather import gather

    facts = gather(refusal)
    findings, trial = examine(facts), facts.trial
    console = None if as_json else report.terminal()
    try:
        if as_json:
            print(report.as_json(findings, trial, version()))
        elif console is not None:
            report.show(findings, trial, console)
        else:
            print(report.as_text(findings, trial, report.columns()))
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return 0 if trial.tasks_run else 1


def _unwritten(error: OSError) -> int:
    """Nobody reads the report (`aiopip doctor | head`), or its disk is full."""
    # What is buffered would be written, and be complained about, at the exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        print(f"aiopip: cannot write the report: {error.strerror}", file=sys.stderr)
    return 2


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("aiopip")
    except metadata.PackageNotFoundError:
        return "unknown, not installed"


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
