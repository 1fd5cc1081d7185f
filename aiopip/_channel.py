"""Messages with descriptors between two processes, over a Unix socket that a loop watches.

A message is one packet of a SOCK_SEQPACKET socket, so there is none that came halfway, whenever the
other side dies.  One that is too large for a packet is in a file in memory whose descriptor the
packet has.  The two sides are trusted code with one memory, so a message is a pickle; but its size
is looked at before it is read, and what cannot be read ends nothing but the message.

Nothing here waits: what the socket does not take at once is sent when it does.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopip._pipes import lifted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopip._loop import Loop

PACKET_BYTES = 1 << 15
"""What is larger goes by a file; a socket buffers 200 KiB by default (net.core.wmem_default)."""

FILE_BYTES = 1 << 28
"""No message is larger: arguments and environment have 6 MiB at the most (execve(2))."""

DESCRIPTORS = 252
"""A packet has 253 at the most (SCM_MAX_FD), and the file may be one of them."""

BATCH = 64
"""How many packets are taken before others have their turn."""

_HEADER = struct.Struct("=Q?")
_INT_BYTES = array.array("i").itemsize


class _Packet(NamedTuple):
    """What waits to be sent."""

    number: int
    data: bytes
    descriptors: Sequence[int]
    ours: list[int]
    """Those to be closed when it was sent."""


class Channel:
    """One end.

    Attributes:
        closed: whether it is.
    """

    __slots__ = ("_ended", "_heard", "_loop", "_packets", "_socket", "_unsent", "closed")

    def __init__(
        self,
        loop: Loop,
        end: socket.socket,
        heard: Callable[[int, Any, list[int]], None],
        unsent: Callable[[int, OSError], None],
        ended: Callable[[], None],
    ) -> None:
        """Take a connected socket, and what is called in the loop.

        Args:
            loop: the running one.
            end: the socket, which is empty then.
            heard: takes a message: its number, what it is, and the descriptors that came with it,
                which are its own from then on.  What could not be read, for a lack of descriptors,
                is None.
            unsent: is told of a message that could not be sent.
            ended: the other side has closed, or died.
        """
        self._loop = loop
        # Tasks inherit 0 to 2, which are free where a process has closed its own.
        self._socket = socket.socket(end.family, end.type, end.proto, lifted(end.detach()))
        self._socket.setblocking(False)
        self._heard = heard
        self._unsent = unsent
        self._ended = ended
        self._packets: deque[_Packet] = deque()
        self.closed = False
        loop.watch(self._socket.fileno(), self._receive)

    def send(
        self, number: int, message: object, descriptors: Sequence[int] = (), *, owned: bool = False
    ) -> None:
        """Send a message, in the order of these calls.

        Args:
            number: what it is about.
            message: anything that pickles.
            descriptors: those to go with it; they have to stay open until there is an answer.
            owned: whether they are closed here, in place of that.
        """
        ours = list(descriptors) if owned else []
        if self.closed:
            _close(ours)
            return
        data = pickle.dumps(message)
        is_file = len(data) > PACKET_BYTES
        if is_file:
            try:
                file = _in_file(data)
            except OSError as error:
                _close(ours)
                self._unsent(number, error)
                return
            ours.append(file)
            descriptors, data = (*descriptors, file), b""
        packet = _Packet(number, _HEADER.pack(number, is_file) + data, descriptors, ours)
        self._packets.append(packet)
        if len(self._packets) == 1:
            self._flush()

    def close(self) -> None:
        """End it; what has not been sent is lost."""
        if self.closed:
            return
        self.closed = True
        if not self._loop.gone:
            self._loop.unwatch(self._socket.fileno())
        self.forsake()

    def forsake(self) -> None:
        """Close the descriptors alone: in a forked child, where the loop is the parent's."""
        self.closed = True
        self._socket.close()
        while self._packets:
            _close(self._packets.popleft().ours)

    def _flush(self) -> None:
        while self._packets and not self.closed:
            packet = self._packets[0]
            try:
                socket.send_fds(self._socket, [packet.data], packet.descriptors)
            except BlockingIOError:
                self._loop.when_writable(self._socket.fileno(), self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                return  # `_receive` finds that, too
            except OSError as error:
                self._packets.popleft()
                _close(packet.ours)
                self._unsent(packet.number, error)
            else:
                self._packets.popleft()
                _close(packet.ours)

    def _receive(self) -> None:
        for _ in range(BATCH):
            if self.closed:
                return
            try:
                data, descriptors, is_whole = _received(self._socket)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, descriptors, is_whole = b"", [], False
            if len(data) < _HEADER.size:
                _close(descriptors)
                self.close()
                self._ended()
                return
            if not is_whole:
                _close(descriptors)
                descriptors.clear()
            number, message = _read(data, descriptors, is_whole)
            self._heard(number, message, descriptors)


def _received(end: socket.socket) -> tuple[bytes, list[int], bool]:
    """A packet, empty at the end; its descriptors; whether this process had room for all."""
    data, ancillary, flags, _ = end.recvmsg(
        2 * PACKET_BYTES, socket.CMSG_SPACE((DESCRIPTORS + 1) * _INT_BYTES), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % _INT_BYTES])
    return data, list(descriptors), not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)


def _read(data: bytes, descriptors: list[int], is_whole: bool) -> tuple[int, Any]:
    """The number of a message, and what it is; its file is taken from the descriptors."""
    number, is_file = _HEADER.unpack_from(data)
    if not is_whole:
        return number, None
    if not is_file:
        return number, pickle.loads(data[_HEADER.size :])
    file = descriptors.pop()
    try:
        size = os.fstat(file).st_size
        return number, pickle.loads(os.pread(file, size, 0)) if size <= FILE_BYTES else None
    finally:
        os.close(file)


def _in_file(data: bytes) -> int:
    file = lifted(os.memfd_create("aiopip-message", os.MFD_CLOEXEC))
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(data)
    except OSError:
        os.close(file)
        raise
    return file


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
