"""ExitStatus: an int that knows more."""

from __future__ import annotations

import pickle
import signal

import pytest

from aiopip import ExitStatus
from aiopip._records import Usage


@pytest.mark.parametrize(
    ("word", "value", "text"),
    [
        (0, 0, "<ExitStatus 0>"),
        (3 << 8, 3, "<ExitStatus 3>"),
        (signal.SIGTERM, -15, "<ExitStatus -15 (SIGTERM)>"),
        (signal.SIGSEGV | 0x80, -11, "<ExitStatus -11 (SIGSEGV, core dumped)>"),
        (40, -40, "<ExitStatus -40 (signal 40)>"),
    ],
)
def test_value_is_code_or_minus_signal(word: int, value: int, text: str) -> None:
    status = ExitStatus(word)
    assert status == value
    assert hash(status) == hash(value)
    assert f"{status}" == str(status) == str(value)
    assert repr(status) == text
    assert status.wait_status == word
    assert status.exited is (value >= 0)
    assert status.signaled is (value < 0)


def test_exit_has_a_code_and_no_signal() -> None:
    status = ExitStatus(3 << 8)
    assert (status.exit_code, status.signal, status.core_dumped) == (3, None, False)


def test_signal_has_its_name() -> None:
    status = ExitStatus(signal.SIGABRT | 0x80)
    assert (status.exit_code, status.signal, status.core_dumped) == (None, signal.SIGABRT, True)
    assert isinstance(status.signal, signal.Signals)


def test_signal_without_a_name_is_an_int() -> None:
    assert ExitStatus(40).signal == 40


def test_stop_is_no_end() -> None:
    with pytest.raises(ValueError, match="stopped"):
        ExitStatus(0x137F)


def test_lost_status_is_255_and_says_so() -> None:
    status = ExitStatus(0xFF00, lost=True)
    assert status == 255
    assert status.lost
    assert "lost" in repr(status)


def test_usage_is_a_struct_rusage() -> None:
    usage = ExitStatus(0, Usage(1_500_000, 250_000, 77, 1, 2, 3, 4, 5, 6)).rusage
    assert (usage.ru_utime, usage.ru_stime, usage.ru_maxrss) == (1.5, 0.25, 77)
    assert (usage.ru_minflt, usage.ru_majflt, usage.ru_inblock, usage.ru_oublock) == (1, 2, 3, 4)
    assert (usage.ru_nvcsw, usage.ru_nivcsw) == (5, 6)


def test_status_survives_pickle() -> None:
    status = ExitStatus(9, Usage(5), 10, 20, lost=True)
    twin = pickle.loads(pickle.dumps(status))
    assert type(twin) is ExitStatus
    assert twin == status
    assert vars(twin) == vars(status)
