"""Messages with descriptors: in their order, of any size, and none halfway."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from support import until

from aiopip._channel import DESCRIPTORS, PACKET_BYTES, Channel
from aiopip._loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Side:
    """A channel, and what came of it."""

    def __init__(self, end: socket.socket) -> None:
        self.heard: list[tuple[int, Any, list[int]]] = []
        self.unsent: list[tuple[int, OSError]] = []
        self.ended = False
        self.channel = Channel(
            running_loop(), end, self._hear, lambda *what: self.unsent.append(what), self._end
        )

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)

    def _end(self) -> None:
        self.ended = True


@contextlib.contextmanager
def sides() -> Iterator[tuple[Side, Side]]:
    """Both ends, and afterwards what they have received closed."""
    left, right = map(Side, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    try:
        yield left, right
    finally:
        for side in (left, right):
            side.channel.close()
            for _, _, files in side.heard:
                close_all(files)


def open_files(count: int) -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def close_all(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


async def test_messages_come_in_their_order_of_any_size() -> None:
    with sides() as (left, right):
        sent = [b"x" * size for size in (0, 1, PACKET_BYTES - 100, PACKET_BYTES + 1, 10**7, 5)]
        for number, message in enumerate(sent):
            left.channel.send(number, message)
        await until(lambda: len(right.heard) == len(sent))
        assert [(number, message) for number, message, _ in right.heard] == list(enumerate(sent))
        assert all(not files for _, _, files in right.heard)


async def test_what_the_socket_does_not_take_is_sent_later() -> None:
    with sides() as (left, right):
        for number in range(3000):
            left.channel.send(number, b"y" * 500)
            right.channel.send(number, number)
        await until(lambda: len(right.heard) == len(left.heard) == 3000)
        assert [number for number, _, _ in right.heard] == list(range(3000))
        assert [message for _, message, _ in left.heard] == list(range(3000))


async def test_descriptors_come_along() -> None:
    ours = open_files(DESCRIPTORS)
    with sides() as (left, right):
        left.channel.send(1, b"large" * PACKET_BYTES, ours)
        left.channel.send(2, None, ours[:1])
        await until(lambda: len(right.heard) == 2)
        assert [len(files) for _, _, files in right.heard] == [DESCRIPTORS, 1]
        for _, _, files in right.heard:
            assert not any(map(os.get_inheritable, files))
            assert all(os.fstat(one).st_rdev == os.fstat(ours[0]).st_rdev for one in files)
    close_all(ours)


async def test_what_cannot_be_sent_is_told_and_nothing_else_lost() -> None:
    (file,) = open_files(1)
    with sides() as (left, right):
        left.channel.send(1, "first")
        os.close(file)
        left.channel.send(2, "of a closed descriptor", [file])
        left.channel.send(3, "last")
        await until(lambda: len(right.heard) == 2)
        assert [number for number, _, _ in right.heard] == [1, 3]
        ((number, error),) = left.unsent
        assert (number, error.errno) == (2, 9)


async def test_owned_descriptors_are_closed_sent_or_not() -> None:
    before = descriptors()
    with sides() as (left, right):
        left.channel.send(1, None, open_files(2), owned=True)
        for number in range(3000):
            left.channel.send(
                number, b"z" * 500, open_files(1) if number == 2999 else [], owned=True
            )
        left.channel.close()
        left.channel.send(2, None, open_files(2), owned=True)
        await until(lambda: right.ended)
        assert right.channel.closed
    assert descriptors() == before


async def test_message_whose_descriptors_have_no_room_is_none() -> None:
    files = open_files(8)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with sides() as (left, right):
        (spare,) = open_files(1)
        os.close(spare)
        left.channel.send(7, "hello", files)
        left.channel.send(8, b"large" * PACKET_BYTES, files[:1])
        left.channel.send(9, "without")
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, limits[1]))
        try:
            with anyio.fail_after(10):
                while len(right.heard) < 3:
                    await anyio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert right.heard == [(7, None, []), (8, None, []), (9, "without", [])]
    close_all(files)


async def test_end_of_the_other_side_is_told_once() -> None:
    with sides() as (left, right):
        left.channel.send(1, "last words")
        left.channel.close()
        left.channel.close()
        await until(lambda: right.ended)
        assert [message for _, message, _ in right.heard] == ["last words"]
        assert not left.ended
        right.channel.send(2, "nobody hears")
        assert not right.unsent
