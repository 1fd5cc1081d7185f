"""pipcc's command line."""

from __future__ import annotations

import os
import sys

import pytest

from aiopip import _pipcc
from aiopip._pipcc import command


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "ccache gcc")


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> list[list[str]]:
    ran: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["pipcc", *args])
    monkeypatch.setattr(os, "execvp", lambda _file, line: ran.append(line))
    _pipcc.pipcc()
    return ran


def test_program_is_linked_with_the_library_behind_it() -> None:
    line = command(["-O2", "-o", "prog", "prog.c"])
    assert line[:2] == ["ccache", "gcc"]
    assert {"-fPIE", "-pie", "-rdynamic", "-pthread", "-DPIPCC"} <= set(line)
    assert "-DPIP_VERSION_MAJOR=2" in line
    assert "-DPIP_VERSION_MINOR=4" in line
    assert line.index("-pie") < line.index("prog.c") < line.index("-laiopip")
    folder = f"{_pipcc.package_folder()}/lib"
    assert line[line.index("-rpath") + 2] == folder


@pytest.mark.parametrize("option", ["-c", "-S", "-E", "-MM", "-fsyntax-only"])
def test_compiling_alone_links_nothing(option: str) -> None:
    line = command([option, "prog.c"])
    assert "-fPIE" in line
    assert not {"-pie", "-rdynamic", "-laiopip"} & set(line)


@pytest.mark.parametrize(
    "args", [["--version"], ["-v"], ["-o", "x"], ["-I", "dir", "-dumpversion"]]
)
def test_without_input_nothing_is_linked(args: list[str]) -> None:
    assert "-laiopip" not in command(args)


def test_standard_input_is_an_input() -> None:
    assert "-laiopip" in command(["-x", "c", "-"])


def test_shared_library_is_no_pie() -> None:
    line = command(["-shared", "-o", "lib.so", "lib.c"])
    assert "-fPIC" in line
    assert "-laiopip" in line
    assert not {"-fPIE", "-pie", "-rdynamic"} & set(line)


@pytest.mark.parametrize("option", ["-piproot", "--piproot", "-piptask", "--piptask"])
def test_roles_are_taken_and_not_handed_on(option: str) -> None:
    assert command([option, "prog.c"]) == command(["prog.c"])


def test_all_else_is_handed_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "-Wfoo", "a.c", "-DX=1 2") == [command(["-Wfoo", "a.c", "-DX=1 2"])]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--cflags", "-fPIE -pthread -I"),
        ("--lflags", "-pie -rdynamic -L"),
        ("--where", _pipcc.package_folder()),
        ("--which", "ccache gcc"),
        ("--help", "usage: pipcc"),
    ],
)
def test_question_is_answered_without_compiling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, says: str
) -> None:
    assert run(monkeypatch, option) == []
    assert capsys.readouterr().out.startswith(says)


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/no/such/cc")
    monkeypatch.setattr(sys, "argv", ["pipcc", "a.c"])
    with pytest.raises(SystemExit, match=r"/no/such/cc.*No such file.*CC"):
        _pipcc.pipcc()


def test_default_compiler_is_gcc_or_cc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC")
    assert _pipcc.compiler() == ["gcc"]
    monkeypatch.setenv("PATH", "/no/such")
    assert _pipcc.compiler() == ["cc"]
