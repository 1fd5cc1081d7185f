"""The command `aiopip`.

    aiopip run [--n COPIES] [--cpu LIST] [--timeout SECONDS] [--json] PROGRAM [ARGS]
    aiopip ps [--json] [ROOT ...]
    aiopip doctor [--json]
    aiopip --version

`aiopip_cli`, beside the package, is where it is entered.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  it has no other


def aiopip(args: Sequence[str], refusal: str = "") -> int:
    """The command `aiopip`.

    Args:
        args: its arguments.
        refusal: why `import aiopip` fails; empty when it does not.

    Returns:
        The exit status: as each command's help has it; 2 where it was called wrongly, or could not
        write.
    """
    parser = argparse.ArgumentParser(
        prog="aiopip", description="Process-in-Process tasks for asyncio."
    )
    parser.add_argument("--version", action="version", version=f"aiopip {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    if not refusal:
        _add_run(commands)
        _add_ps(commands)
    _add_doctor(commands, refusal)
    if refusal and args and args[0] in ("run", "ps"):
        parser.error(f"{args[0]}: {refusal}; see `aiopip doctor`")
    options = parser.parse_args(args)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return status


def _add(commands: Commands, name: str, about: str, epilog: str) -> argparse.ArgumentParser:
    """A command, with the option that all have."""
    parser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=epilog
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_run(commands: Commands) -> None:
    from aiopip._commands import run

    parser = _add(
        commands,
        "run",
        "run copies of a program as tasks of one Root, and wait for them",
        "Exit status: that of the task that has the greatest, 128 + N for one that signal N ended; "
        "124 when the time was over, 125 when a task could not be started, 126 when the program "
        "cannot be one, 127 when it was not found. What --json prints goes to stderr, as its last "
        "line. Ctrl-C ends all tasks: SIGTERM, after five seconds SIGKILL, which a second Ctrl-C "
        "sends at once.",
    )
    parser.add_argument("--n", type=run.count, default=1, metavar="COPIES", help="how many; 1")
    parser.add_argument(
        "--cpu",
        type=run.processors,
        metavar="LIST",
        help="processors to run on, such as 0,2-4; of several copies each gets one, in turn",
    )
    parser.add_argument(
        "--timeout", type=run.seconds, metavar="SECONDS", help="end the tasks after that time"
    )
    parser.add_argument("program", metavar="PROGRAM", help="a path, or a name to search in PATH")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    parser.set_defaults(
        command=lambda options: run.run(
            run.Order(
                program=options.program,
                args=tuple(options.args),
                copies=options.n,
                processors=options.cpu,
                timeout_s=options.timeout,
                as_json=options.json,
            )
        )
    )


def _add_ps(commands: Commands) -> None:
    from aiopip._commands.ps import ps

    parser = _add(
        commands,
        "ps",
        "show the tasks of all Roots of this user",
        "Exit status: 0; 1 when a Root did not answer, or there is none in a process that was "
        "named.",
    )
    parser.add_argument("root", nargs="*", type=int, metavar="ROOT", help="a Root's process ID")
    parser.set_defaults(command=lambda options: ps(options.root, as_json=options.json))


def _add_doctor(commands: Commands, refusal: str) -> None:
    parser = _add(
        commands,
        "doctor",
        "say what this machine offers to tasks, what it lacks, and what follows from that",
        "Exit status: 0 when tasks run here, 1 when they do not, 2 when it cannot say so.",
    )
    parser.set_defaults(command=lambda options: run_doctor(as_json=options.json, refusal=refusal))


def run_doctor(*, as_json: bool, refusal: str) -> int:
    """Examine this machine and print what was found; returns the exit status."""
    from aiopip._doctor import report
    from aiopip._doctor.checks import examine
    from aiopip._doctor.gather import gather

    facts = gather(refusal)
    findings, trial = examine(facts), facts.trial
    console = None if as_json else report.terminal()
    if as_json:
        print(report.as_json(findings, trial, version()))
    elif console is not None:
        report.show(findings, trial, console)
    else:
        print(report.as_text(findings, trial, report.columns()))
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
