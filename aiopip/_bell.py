"""What wakes a thread that sleeps on descriptors."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """A descriptor that wakes who polls it; closed with the last reference to it."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """Make it readable; any thread, also in the middle of anything."""
        with contextlib.suppress(BlockingIOError):  # it is, and was not looked at for long
            os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Make it not readable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def __del__(self) -> None:
        os.close(self.fd)
