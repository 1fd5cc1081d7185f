"""`aiopip run`: exit statuses, copies, processors, time limits, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from integration.commands import COMMAND, aiopip, on_terminal
from support import all_gone, block_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUBBORN = "trap 'echo term' TERM; echo $$; while :; do sleep 0.05; done"
"""A shell that says its process ID, and that it got SIGTERM, and goes on."""


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)]
)
def test_exit_status_is_the_tasks(script: str, status: int) -> None:
    done = aiopip("run", "sh", "-c", script)
    assert done.returncode == status
    assert ("SIGTERM" in done.stderr) == (status == 143)


def test_exit_status_is_the_worst_of_all(tmp_path: Path) -> None:
    # Whoever makes the folder exits with 1, the other one with 2.
    script = f"mkdir {tmp_path}/first 2>/dev/null && exit 1 || exit 2"
    done = aiopip("run", "--n", 2, "sh", "-c", script)
    assert done.returncode == 2
    assert sorted(re.findall(r"exit (\d)", done.stderr)) == ["1", "2"]


def test_arguments_behind_the_program_are_its_own() -> None:
    done = aiopip("run", "echo", "--n", "3", "--json", "-h")
    assert (done.returncode, done.stdout) == (0, "--n 3 --json -h\n")


def test_streams_are_those_of_the_command() -> None:
    done = aiopip("run", "sh", "-c", "cat; echo error >&2", input="text\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "error\n")


@pytest.mark.parametrize(
    ("program", "status", "text"),
    [
        ("no-such-program", 127, "not found"),
        ("./no-such-program", 127, "no such file"),
        ("/etc/passwd", 126, "cannot start '/etc/passwd' as a task"),
        ("/", 126, "cannot start '/' as a task"),
    ],
)
def test_what_cannot_be_started_has_the_status_that_shells_give(
    program: str, status: int, text: str
) -> None:
    done = aiopip("run", program)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_copies_have_their_number_for_a_pip_id() -> None:
    done = aiopip("run", "--json", "--n", 4, "true")
    told = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, told["status"], told["timed_out"]) == (0, 0, False)
    assert [task["pipid"] for task in told["tasks"]] == [0, 1, 2, 3]
    assert len({task["pid"] for task in told["tasks"]}) == 4
    assert all(task["elapsed_s"] >= 0 and task["signal"] is None for task in told["tasks"])


def test_json_tells_of_signals() -> None:
    done = aiopip("run", "--json", "sh", "-c", "kill -KILL $$")
    told = json.loads(done.stderr)
    assert (done.returncode, told["status"]) == (137, 137)
    assert told["tasks"][0]["signal"] == signal.SIGKILL


def affinities(*args: object) -> list[set[int]]:
    """On which processors tasks may run, by PiP ID."""
    # One write a line, also with PYTHONUNBUFFERED: several print at once.
    script = (
        "import aiopip, os; found = [aiopip.this_task().pipid, *os.sched_getaffinity(0)]; "
        "os.write(1, f'{str(found)[1:-1]}\\n'.replace(',', '').encode())"
    )
    # Not here: the sources' folder would hide the package that is installed.
    done = aiopip("run", *args, sys.executable, "-c", script, cwd="/")  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    lines = sorted(list(map(int, line.split())) for line in done.stdout.splitlines())
    return [set(processors) for _, *processors in lines]


def test_one_copy_may_run_on_all_processors_of_the_list() -> None:
    here = sorted(os.sched_getaffinity(0))[:2]
    assert affinities("--cpu", ",".join(map(str, here))) == [set(here)]


def test_copies_get_a_processor_each_in_turn() -> None:
    here = sorted(os.sched_getaffinity(0))[:2]
    got = affinities("--cpu", ",".join(map(str, here)), "--n", 3)
    assert got == [{here[0]}, {here[-1]}, {here[0]}]


def test_processor_that_is_not_there_is_named() -> None:
    done = aiopip("run", "--cpu", 1023, "true")
    assert done.returncode == 125
    assert "cpu: none of these processors is there" in done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--n", "0"), "'0' is not within 1 and 4096"),
        (("--n", "many"), "'many' is not within"),
        (("--cpu", "1-"), "'1-' is no list of processors"),
        (("--cpu", "3-1"), "'3-1' names no processor"),
        (("--timeout", "-1"), "no positive number"),
        (("--timeout", "nan"), "no positive number"),
    ],
)
def test_bad_options_are_refused(args: tuple[str, ...], text: str) -> None:
    done = aiopip("run", *args, "true")
    assert done.returncode == 2
    assert text in done.stderr


def test_time_limit_ends_all() -> None:
    done = aiopip("run", "--timeout", "0.2", "--n", 2, "sleep", "600")
    assert done.returncode == 124
    assert "the time is over" in done.stderr


def test_time_limit_is_told_in_json() -> None:
    done = aiopip("run", "--timeout", "0.2", "--json", "sleep", "600")
    told = json.loads(done.stderr)
    assert (done.returncode, told["status"], told["timed_out"]) == (124, 124, True)
    assert told["tasks"][0]["signal"] == signal.SIGTERM


@pytest.fixture
def running() -> Iterator[Any]:
    """Start the command with two copies of a script; it is killed if the test does not end it."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> tuple[subprocess.Popen[str], list[int]]:
        line = [COMMAND, "run", "--n", "2", "sh", "-c", script]
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        return process, [int(process.stdout.readline()) for _ in range(2)]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_all(running: Any, number: int) -> None:
    process, pids = running("echo $$; exec sleep 600")
    process.send_signal(number)
    _, written = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert all_gone(pids)
    assert "Traceback" not in written


def test_second_signal_ends_those_that_ignore_the_first(running: Any) -> None:
    process, pids = running(STUBBORN)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "term\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert all_gone(pids)


def test_what_is_killed_takes_its_tasks_along(running: Any) -> None:
    process, pids = running("echo $$; exec sleep 600")
    process.kill()
    process.communicate()
    block_until(lambda: all_gone(pids), "the tasks die with their root")


def test_terminal_shows_how_all_ended() -> None:
    pytest.importorskip("rich")
    status, shown = on_terminal("run", "--n", 2, "sh", "-c", "exit 4")
    assert status == 4
    assert shown.count("exit 4") == 2
    assert "\x1b[" in shown
    assert "PIP ID" in shown


def test_progress_is_shown_where_no_task_writes() -> None:
    pytest.importorskip("rich")
    line = ("run", "--n", 2, "sleep", "0.3")
    _, shown = on_terminal(*line, stdout=subprocess.DEVNULL)
    assert "/2" in shown
    _, shown = on_terminal(*line)
    assert "/2" not in shown
