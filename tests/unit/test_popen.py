"""asyncio's keywords as options of a spawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiopip import InvalidArgumentError
from aiopip._popen import exec_command, shell_command
from aiopip._spawn import TASKS_ONLY

DEFAULTS = {
    "bufsize": 0,
    "close_fds": True,
    "creationflags": 0,
    "cwd": "/",
    "encoding": None,
    "env": {"A": "b"},
    "errors": None,
    "executable": None,
    "extra_groups": None,
    "group": None,
    "pass_fds": (),
    "pipesize": -1,
    "preexec_fn": None,
    "process_group": None,
    "restore_signals": True,
    "start_new_session": False,
    "startupinfo": None,
    "text": None,
    "umask": -1,
    "universal_newlines": False,
    "user": None,
}
"""Each keyword of Popen that asyncio takes, with its default; but for two that have none here."""


def options(**keywords: Any) -> dict[str, Any]:
    return exec_command("program", (), keywords).options


def test_program_and_arguments_are_handed_on() -> None:
    command = exec_command(Path("a"), ("b", b"c", Path("d")), {})
    assert command == (Path("a"), ("b", b"c", Path("d")), {}, None)


def test_defaults_need_no_option() -> None:
    assert options(**DEFAULTS) == {"cwd": "/", "env": {"A": "b"}}
    assert options(process_group=-1, extra_groups=None) == {}


@pytest.mark.parametrize(
    ("keyword", "value", "option"),
    [
        ("start_new_session", True, "new_session"),
        ("process_group", 0, "process_group"),
        ("umask", 0, "umask"),
        ("umask", 0o77, "umask"),
        ("close_fds", False, "close_fds"),
        ("pass_fds", (5,), "pass_fds"),
        ("user", 0, "user"),
        ("user", "nobody", "user"),
        ("group", 0, "group"),
        ("extra_groups", (), "extra_groups"),
        ("extra_groups", [1, "adm"], "extra_groups"),
        ("argv0", "name", "argv0"),
        ("preexec_fn", print, "preexec_fn"),  # which spawn refuses
        ("pipid", 3, "pipid"),
        ("nice", 5, "nice"),
    ],
)
def test_keyword_becomes_an_option(keyword: str, value: Any, option: str) -> None:
    assert options(**{keyword: value}) == {option: value}


def test_descriptors_that_are_passed_close_the_others() -> None:
    assert options(pass_fds=(5,), close_fds=False) == {"pass_fds": (5,)}


def test_executable_is_the_file_and_the_program_its_name() -> None:
    command = exec_command("name", ("a",), {"executable": "/bin/sh"})
    assert command == ("/bin/sh", ("a",), {"argv0": "name"}, None)
    assert exec_command("n", (), {"executable": "f", "argv0": "0"}).options == {"argv0": "0"}


def test_shell_runs_the_command() -> None:
    assert shell_command("a | b", {"cwd": "/"}) == ("/bin/sh", ("-c", "a | b"), {"cwd": "/"}, None)
    assert shell_command(b"a", {"shell": True})[:2] == ("/bin/sh", ("-c", b"a"))
    assert shell_command("a", {"executable": "/bin/bash"}) == ("/bin/bash", ("-c", "a"), {}, None)


def test_size_of_pipes() -> None:
    assert exec_command("a", (), {"pipesize": 4096}).pipe_bytes == 4096
    assert exec_command("a", (), {"pipesize": 0}).pipe_bytes is None


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("universal_newlines", True, "universal_newlines must be False"),
        ("shell", True, "shell must be False"),
        ("bufsize", -1, "bufsize must be 0"),
        ("text", True, "text must be False"),
        ("encoding", "utf-8", "encoding must be None"),
        ("errors", "strict", "errors must be None"),
        ("startupinfo", object(), "only supported on Windows"),
        ("creationflags", 1, "only supported on Windows"),
    ],
)
def test_what_asyncio_refuses_is_refused_in_its_words(keyword: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options(**{keyword: value})


def test_shell_refuses_likewise() -> None:
    for keywords in ({"shell": False}, {"text": True}):
        with pytest.raises(ValueError, match="must be"):
            shell_command("true", keywords)
    with pytest.raises(ValueError, match="cmd must be a string"):
        shell_command(["true"], {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keyword", "value", "instead"),
    [
        ("restore_signals", False, "trap"),
        *((option, 1, "root.spawn") for option in sorted(TASKS_ONLY)),
    ],
)
def test_what_cannot_be_says_what_there_is_instead(keyword: str, value: Any, instead: str) -> None:
    with pytest.raises(InvalidArgumentError, match=instead) as caught:
        options(**{keyword: value})
    assert caught.value.argument == keyword


def test_keywords_are_the_callers() -> None:
    keywords = {"start_new_session": True, "text": None}
    exec_command("a", (), keywords)
    assert keywords == {"start_new_session": True, "text": None}
