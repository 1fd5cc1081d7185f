"""The command line of `aiopip`, and how its commands write."""

from __future__ import annotations

import pytest

from aiopip import _cli
from aiopip._commands.output import amount, as_text, duration
from aiopip._commands.run import processors


@pytest.mark.parametrize("command", ["run", "ps"])
def test_without_the_native_part_commands_say_why(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        _cli.aiopip([command, "true"], refusal="aiopip needs Linux")
    assert exit_.value.code == 2
    assert f"{command}: aiopip needs Linux; see `aiopip doctor`" in capsys.readouterr().err


def test_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _cli.aiopip(["--help"])
    written = capsys.readouterr().out
    assert all(f"\n    {command} " in written for command in ("run", "ps", "doctor"))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3", (3,)), ("0,2-4", (0, 2, 3, 4)), ("4,0-1,1", (4, 0, 1)), ("7-7", (7,))],
)
def test_processors_are_in_the_order_of_the_list(text: str, numbers: tuple[int, ...]) -> None:
    assert processors(text) == numbers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.00"), (0.014, "0:00.01"), (59.999, "1:00.00"), (3723.5, "62:03.50")],
)
def test_durations_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 KiB"),
        (143360, "140 KiB"),
        (1000 << 10, "1.0 MiB"),
        (250 << 20, "250 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_amounts_have_few_digits(size: int, text: str) -> None:
    assert amount(size) == text


def test_tables_end_numbers_at_the_right() -> None:
    table = as_text(("PID", "NAME"), [("7", "a"), ("4711", "long name")], left=("NAME",))
    assert table == " PID  NAME\n   7  a\n4711  long name"
