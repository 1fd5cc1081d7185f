"""The arguments of spawn, packed for the native core."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiopip
from aiopip._descriptors import INHERIT, NULL, TO_STDOUT
from aiopip._request import PIPID_ANY, SpawnFlags, SpawnRequest, pack

if TYPE_CHECKING:
    from collections.abc import Callable


def packed(program: Any = "prog", *args: Any, **options: Any) -> SpawnRequest:
    stdio = tuple(options.pop(name, None) for name in ("stdin", "stdout", "stderr"))
    facts = {"argv0": None, "env": None, "cwd": None, "pipid": None, "max_tasks": 8, **options}
    return pack(program, args, stdio=stdio, **facts)


def test_program_is_argv0() -> None:
    request = packed("bin/prog", "a", b"b", Path("c"))
    assert request.program == b"bin/prog\0"
    assert request.argv == b"bin/prog\0a\0b\0c\0"
    assert request.argc == 4
    assert request.given_name is None


def test_environment_is_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"env: \['A=1'\] is no mapping"):
        packed(env=["A=1"])


def test_argv0_is_as_given() -> None:
    assert packed("prog", "a", argv0="-sh").argv == b"-sh\0a\0"


def test_empty_arguments_count() -> None:
    request = packed("prog", "", "")
    assert (request.argv, request.argc) == (b"prog\0\0\0", 3)


def test_environment_is_this_process_s_by_default() -> None:
    request = packed()
    assert (request.envp, request.envc, request.path_list) == (None, 0, None)
    assert request.path_text == os.environ["PATH"]


def test_environment_is_all_of_what_is_given() -> None:
    request = packed(env={"A": "1", b"B": b"2", "E": ""})
    assert (request.envp, request.envc) == (b"A=1\0B=2\0E=\0", 3)
    assert request.path_list is None


def test_path_is_the_environment_s() -> None:
    assert packed(env={"PATH": "/x:/y"}).path_list == b"/x:/y\0"


@pytest.mark.parametrize(
    ("argument", "given_"),
    [
        ("program", {"program": "a\0b"}),
        ("argument 1", {"args": ["a\0b"]}),
        ("argv0", {"argv0": "\0"}),
        ("cwd", {"cwd": "/\0"}),
        ("env, name", {"env": {"A\0": "1"}}),
        ("env['A']", {"env": {"A": "1\0"}}),
    ],
)
def test_nul_is_refused_by_name(argument: str, given_: dict[str, Any]) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="NUL") as caught:
        packed(given_.pop("program", "prog"), *given_.pop("args", ()), **given_)
    assert caught.value.argument.startswith(argument)


@pytest.mark.parametrize("name", ["", "A=B", "="])
def test_name_of_a_variable_has_no_equals_sign(name: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="env"):
        packed(env={name: "1"})


def test_lone_surrogate_is_refused() -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="cannot be encoded"):
        packed("prog", "\ud800")


def test_empty_program_is_not_found() -> None:
    with pytest.raises(aiopip.ProgramNotFoundError, match="empty"):
        packed("")


def test_stdio_is_inherited_by_default() -> None:
    assert packed().stdio == (INHERIT, INHERIT, INHERIT)


def test_stdio_takes_descriptors_files_and_constants() -> None:
    with tempfile.TemporaryFile() as file:
        request = packed(stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        assert request.stdio == (NULL, file.fileno(), TO_STDOUT)
    assert packed(stdin=0, stdout=2, stderr=1).stdio == (0, 2, 1)


@pytest.mark.parametrize("option", ["stdin", "stdout"])
def test_stdout_constant_is_for_stderr_alone(option: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=f"{option}: STDOUT"):
        packed(**{option: subprocess.STDOUT})


def test_closed_file_is_refused() -> None:
    with tempfile.TemporaryFile() as file:
        pass
    with pytest.raises(aiopip.InvalidArgumentError, match="stdout"):
        packed(stdout=file)


@pytest.mark.parametrize("value", [-7, "name", object(), True])
def test_what_has_no_descriptor_is_refused(value: object) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="descriptor"):
        packed(stderr=value)


def test_pipid_is_any_by_default() -> None:
    assert packed().pipid == PIPID_ANY
    assert packed(pipid=7).pipid == 7


@pytest.mark.parametrize("pipid", [-1, 8])
def test_pipid_lies_within_the_slots(pipid: int) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="within 0 and 7"):
        packed(pipid=pipid)


C_STRING = st.binary(max_size=20).filter(lambda value: b"\0" not in value)


@given(
    st.lists(C_STRING), st.dictionaries(C_STRING.filter(lambda n: n and b"=" not in n), C_STRING)
)
def test_packed_strings_can_be_told_apart(args: list[bytes], env: dict[bytes, bytes]) -> None:
    request = packed("prog", *args, env=env)
    assert request.argv.split(b"\0")[:-1] == [b"prog", *args]
    assert request.argv.count(b"\0") == request.argc
    assert request.envp is not None
    assert request.envp.count(b"\0") == request.envc
    variables = [line.partition(b"=") for line in request.envp.split(b"\0")[:-1]]
    assert {name: value for name, _, value in variables} == env


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("pipid", lambda: packed(pipid="a")),
        ("pipid", lambda: packed(pipid=1.0)),
        ("max_tasks", lambda: aiopip.Root(max_tasks=1.5)),  # type: ignore[arg-type]
        ("grace_s", lambda: aiopip.Root(grace_s="x")),  # type: ignore[arg-type]
        ("offset", lambda: aiopip.Lock(offset="a")),  # type: ignore[arg-type]
        ("pipid", lambda: packed(pipid=False)),
        ("max_tasks", lambda: aiopip.Root(max_tasks=True)),
        ("offset", lambda: aiopip.Lock(offset=False)),
    ],
)
def test_argument_of_another_type_is_named(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=f"^{name}: .* is no "):
        call()


# Process groups


def test_group_and_session_are_the_root_s_by_default() -> None:
    request = packed()
    assert (request.flags, request.process_group) == (SpawnFlags(0), 0)


@pytest.mark.parametrize("group", [0, 1, 4711, 2**31 - 1])
def test_group_may_be_made_and_joined(group: int) -> None:
    request = packed(process_group=group)
    assert (request.flags, request.process_group) == (SpawnFlags.PROCESS_GROUP, group)


def test_session_may_be_new() -> None:
    assert packed(new_session=True).flags == SpawnFlags.NEW_SESSION


def test_task_may_be_stopped_in_its_group() -> None:
    assert packed(stopped=True).flags == SpawnFlags.STOPPED
    both = SpawnFlags.STOPPED | SpawnFlags.PROCESS_GROUP
    assert packed(stopped=True, process_group=0).flags == both


@pytest.mark.parametrize("group", [-1, 2**31])
def test_what_is_no_group_is_refused(group: int) -> None:
    with pytest.raises(
        aiopip.InvalidArgumentError, match=f"^process_group: {group} is no"
    ) as error:
        packed(process_group=group)
    assert error.value.argument == "process_group"


def test_group_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^process_group: 'x' is no integer"):
        packed(process_group="x")


@pytest.mark.parametrize("group", [0, 4711])
def test_leader_of_a_session_cannot_change_its_group(group: int) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="give new_session or process_group"):
        packed(new_session=True, process_group=group)
