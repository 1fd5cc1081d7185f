"""The options of spawn that are given seldom, packed for the native core."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiopip
from aiopip import Share
from aiopip._descriptors import INHERIT
from aiopip._options import Given, PackedLimit, PackedOptions
from aiopip._request import SpawnRequest, pack

NO_LIMIT = 2**64 - 1


def request(**options: Any) -> SpawnRequest:
    stdio = tuple(options.pop(name, None) for name in ("stdin", "stdout", "stderr"))
    return pack("prog", (), stdio=stdio, max_tasks=8, **options)


def packed(**options: Any) -> PackedOptions:
    found = request(**options).options
    assert found is not None
    return found


def test_without_options_nothing_is_packed() -> None:
    assert request().options is None
    assert request(cpu=None, umask=None, rlimits={}, name=None, nice=None).options is None


def test_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        request(colour="red")


# Bad values


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("umask", -1, "0o0 and 0o777"),
        ("umask", 0o1000, "0o1000 is not within"),
        ("nice", -21, "-20 and 19"),
        ("nice", 20, "-20 and 19"),
        ("sigmask", [0], "0 is no signal"),
        ("sigmask", {65}, "65 is no signal"),
        ("sigmask", {32}, "32 is no signal"),
        ("cpu", -1, "0 and 8191"),
        ("cpu", {0, 8192}, "8192"),
        ("cpu", (), "no processor is left"),
        ("name", "", "1 to 15 bytes"),
        ("name", "a\0b", "1 to 15 bytes"),
        ("name", "ä" * 8, "1 to 15 bytes"),
        ("stack_bytes", 0, "262144"),
        ("stack_bytes", 2**63, "262144"),
        ("rlimits", {-1: 0}, "-1"),
        ("rlimits[7]", {7: -2}, "-2"),
        ("rlimits[7]", {7: (2, 1)}, "soft limit is above"),
        ("rlimits[7]", {7: (resource.RLIM_INFINITY, 1)}, "soft limit is above"),
        ("rlimits[7]", {7: (1, 2, 3)}, "pair"),
        ("entry", "", "'' is no name"),
        ("entry", "a\0", "is no name"),
        ("arg", 7, "entry"),
        ("arg", b"", "entry"),
        ("user", "no such user", "there is no user 'no such user'"),
        ("user", "\0", "there is no user"),
        ("group", "no such group", "there is no group"),
        ("extra_groups", [0, "no such group"], "there is no group"),
        ("user", -1, "0 and 4294967294"),
        ("group", 2**32 - 1, "0 and 4294967294"),
    ],
)
def test_value_out_of_range_is_refused_by_name(option: str, value: Any, why: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=why) as caught:
        packed(**{option.partition("[")[0]: value})
    assert caught.value.argument == option


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("umask", "022"),
        ("umask", True),
        ("nice", 1.5),
        ("sigmask", "SIGTERM"),
        ("sigmask", 15),
        ("sigmask", ["SIGTERM"]),
        ("cpu", "0"),
        ("cpu", b"0"),
        ("cpu", [0.0]),
        ("name", 7),
        ("stack_bytes", "1M"),
        ("rlimits", [(7, 1)]),
        ("rlimits", {"RLIMIT_NOFILE": 1}),
        ("rlimits[7]", {7: "1"}),
        ("rlimits[7]", {7: (1, None)}),
        ("entry", print),
        ("user", 1.0),
        ("user", b"root"),
        ("group", True),
        ("extra_groups", 0),
        ("extra_groups", "wheel"),
        ("extra_groups", [None]),
    ],
)
def test_value_of_another_type_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        packed(**{option.partition("[")[0]: value})
    assert str(caught.value).startswith(f"{option}: ")


def test_stack_has_one_limit() -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="stack_bytes"):
        packed(stack_bytes=1 << 20, rlimits={resource.RLIMIT_STACK: 1 << 20})


# Good ones


def test_zero_is_a_value() -> None:
    assert packed(umask=0).given == Given.UMASK
    assert packed(nice=0).given == Given.NICE
    assert packed(sigmask=()).given == Given.SIGMASK


def test_limits() -> None:
    rlimits = {
        resource.RLIMIT_NOFILE: 100,
        resource.RLIMIT_CORE: (0, resource.RLIM_INFINITY),
        resource.RLIMIT_CPU: resource.RLIM_INFINITY,
    }
    assert packed(rlimits=rlimits).limits == (
        PackedLimit(resource.RLIMIT_NOFILE, True, 100, 0),
        PackedLimit(resource.RLIMIT_CORE, False, 0, NO_LIMIT),
        PackedLimit(resource.RLIMIT_CPU, True, NO_LIMIT, 0),
    )


def test_name_is_bytes_and_the_task_s() -> None:
    assert packed(name="wörker").name == "wörker".encode() + b"\0"
    assert packed(name=b"123456789012345").name == b"123456789012345\0"
    assert request(name="worker").given_name == "worker"


@given(st.sets(st.sampled_from(sorted(signal.valid_signals()))))
def test_sigmask_is_a_bit_for_each_signal(signals: set[int]) -> None:
    mask = packed(sigmask=signals).sigmask
    assert {number for number in range(1, 65) if mask >> (number - 1) & 1} == signals


@given(st.sets(st.integers(0, 8191), min_size=1))
def test_cpus_are_a_bit_each_in_whole_words(chosen: set[int]) -> None:
    cpus = packed(cpu=chosen).cpus
    assert len(cpus) == 8 * (max(chosen) // 64 + 1)
    mask = int.from_bytes(cpus, sys.byteorder)
    assert {number for number in range(8192) if mask >> number & 1} == chosen


def test_one_cpu_is_a_set_of_one() -> None:
    assert packed(cpu=3) == packed(cpu=[3]) == packed(cpu=iter((3,)))


def test_users_and_groups_by_name_and_number() -> None:
    by_name = packed(user="root", group="root", extra_groups=["root", 7])
    assert by_name == packed(user=0, group=0, extra_groups=(0, 7))
    assert by_name.given == Given.USER | Given.GROUP | Given.EXTRA_GROUPS
    assert packed(extra_groups=()).given == Given.EXTRA_GROUPS


def test_argument_is_copied_bytes_or_an_address() -> None:
    assert packed(entry="work").arg == 0
    assert packed(entry=b"work", arg=b"").arg == b"\0"
    for arg in (b"a\0b", bytearray(b"a\0b"), memoryview(b"a\0b")):
        assert packed(entry="work", arg=arg).arg == b"a\0b\0"
    assert packed(entry="work", arg=2**64 - 1) == PackedOptions(entry=b"work\0", arg=2**64 - 1)


@pytest.mark.parametrize("arg", [-1, 2**64])
def test_argument_that_is_no_address(arg: int) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^arg: -?0x"):
        packed(entry="work", arg=arg)


def test_argument_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"^arg: "):
        packed(entry="work", arg="text")


# Descriptors


def test_descriptors_are_packed_by_number() -> None:
    with tempfile.TemporaryFile() as file:
        options = packed(pass_fds=(909, file), fd_map={940: 3, 912: file})
        number = file.fileno()
    assert options.descriptors == tuple(
        sorted([(909, 909, True), (number, number, True), (940, 3, False), (912, number, False)])
    )
    assert options.mapped_stdio == 0


def test_mapped_standard_descriptors_are_stdio() -> None:
    made = request(fd_map={0: 7, 2: 8, 3: 9}, stdout=6)
    assert made.stdio == (7, 6, 8)
    assert made.options == PackedOptions(descriptors=((3, 9, False),), mapped_stdio=5)  # type: ignore[arg-type]


def test_standard_descriptors_are_passed_anyway() -> None:
    made = request(pass_fds=[0, 1, 2])
    assert (made.stdio, made.options) == ((INHERIT, INHERIT, INHERIT), None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"fd_map": {0: 5}, "stdin": 6}, "fd_map: stdin says what 0 is"),
        ({"pass_fds": [1], "stdout": subprocess.DEVNULL}, "pass_fds: stdout says what 1 is"),
        ({"fd_map": {2: 5}, "stderr": subprocess.STDOUT}, "fd_map: stderr says what 2 is"),
        ({"fd_map": {7: 5}, "pass_fds": [7]}, "fd_map: 7 is in pass_fds, too"),
        ({"fd_map": {-1: 5}}, "fd_map: -1 is no number"),
        ({"fd_map": {2**31: 5}}, "fd_map: 2147483648 is no number"),
        ({"fd_map": {3: -1}}, r"fd_map\[3\]: -1 is no descriptor"),
        ({"fd_map": {3: None}}, r"fd_map\[3\]: None has no descriptor"),
        ({"pass_fds": [-1]}, "pass_fds: -1 is no descriptor"),
        ({"pass_fds": [2**31]}, "pass_fds: 2147483648 is no descriptor"),
        ({"pass_fds": [True]}, "pass_fds: True is no descriptor"),
    ],
)
def test_descriptors_that_cannot_be_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=f"^{why}"):
        packed(**options)


@pytest.mark.parametrize(
    "options", [{"fd_map": [(3, 4)]}, {"fd_map": {"3": 4}}, {"pass_fds": 3}, {"pass_fds": "3"}]
)
def test_descriptors_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^(fd_map|pass_fds): "):
        packed(**options)


# Sharing


def test_what_is_shared_is_a_flag_each() -> None:
    assert packed(share=Share.FILES).given == Given.SHARE_FILES
    assert packed(share=Share.FILES | Share.FS).given == Given.SHARE_FILES | Given.SHARE_FS
    assert packed(close_fds=False).given == Given.INHERIT
    assert request(share=Share.NONE, close_fds=True).options is None


@pytest.mark.parametrize(
    ("share", "option", "value"),
    [
        (Share.FILES, "stdin", subprocess.DEVNULL),
        (Share.FILES, "stdout", 5),
        (Share.FILES, "stderr", subprocess.STDOUT),
        (Share.FILES, "pass_fds", [0]),
        (Share.FILES | Share.FS, "fd_map", {0: 1}),
        (Share.FS, "cwd", "/"),
        (Share.FILES | Share.FS, "umask", 0),
    ],
)
def test_what_is_shared_is_not_changed_for_one(share: Share, option: str, value: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=rf"^{option}: with share=Share\.F"):
        packed(share=share, **{option: value})


@pytest.mark.parametrize("share", [1, "FILES"])
def test_share_is_an_enumeration(share: object) -> None:
    with pytest.raises(TypeError, match=r"^share: .* is no aiopip\.Share"):
        packed(share=share)


def test_preexec_fn_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"preexec_fn: .*use cwd, umask"):
        packed(preexec_fn=print)
