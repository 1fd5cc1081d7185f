"""The descriptors of a spawn that goes to another process: out of the request, and into it there.

In between a request has for each its place in a list, which SCM_RIGHTS carries.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aiopip._attributes import attributes, with_attributes
from aiopip._channel import DESCRIPTORS
from aiopip._descriptors import INHERIT, NULL, PackedDescriptor
from aiopip._errors import InvalidArgumentError, blend
from aiopip._messages import Spawn
from aiopip._options import NOTHING, Given
from aiopip._records import Failed, Failure
from aiopip._spawn_errors import SpawnOptionError, spawn_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopip._request import SpawnRequest


def taken(request: SpawnRequest, bound: bool) -> tuple[Spawn, list[int]]:
    """The message of a request, and the descriptors that go with it.

    What the task would inherit is in the list, too: 0 to 2, of which one that is closed here is
    /dev/null, and with close_fds=False all others.  And its folder is this process's.

    Args:
        request: as it is packed for a Root in this process.
        bound: of the message.

    Raises:
        SpawnOptionError: a descriptor is not open (EBADF), this process's folder is gone (ENOENT).
        InvalidArgumentError: there are too many descriptors; something is to be shared.
    """
    request = _with_inherited(_in_folder(request))
    places: dict[int, int] = {}

    def place(descriptor: int, failure: Failure, detail: str) -> int:
        if not _is_open(descriptor):
            failed = Failed(0, 0, failure, errno.EBADF, detail)
            raise spawn_error(failed, request.program_text, request.path_text)
        return places.setdefault(descriptor, len(places))

    options = request.options
    stdio = _stdio(request, place)
    if options is not None and options.descriptors:
        listed = tuple(
            one._replace(
                source=place(
                    one.source,
                    Failure.OPTIONS,
                    f"{'pass_fds' if one.passed else 'fd_map'}[{one.number}]",
                )
            )
            for one in options.descriptors
        )
        options = dataclasses.replace(options, descriptors=listed)
    if len(places) > DESCRIPTORS:
        problem = f"{len(places)} descriptors are more than the {DESCRIPTORS} that a task can send"
        raise InvalidArgumentError("fd_map", problem)
    request = dataclasses.replace(request, stdio=stdio, options=options)
    return Spawn(request, attributes(), bound), list(places)


def _in_folder(request: SpawnRequest) -> SpawnRequest:
    """A request whose folder is this process's, or relative to that."""
    given = None if request.cwd is None else os.fsdecode(request.cwd[:-1])
    if given is not None and (not given or given.startswith("/")):
        return request
    try:
        here = Path.cwd()
    except OSError as error:
        number = error.errno or errno.EIO
        make = blend(SpawnOptionError, number)
        raise make(number, request.program_text, "cwd", "this task's own") from None
    return dataclasses.replace(request, cwd=os.fsencode(here / (given or "")) + b"\0")


def _with_inherited(request: SpawnRequest) -> SpawnRequest:
    """A request in which what is inherited beside 0 to 2 is passed."""
    options = request.options
    if options is None:
        return request
    if options.given & (Given.SHARE_FILES | Given.SHARE_FS):
        raise InvalidArgumentError(
            "share", "the task would share it with the Root, not with this task, which asks for it"
        )
    if not options.given & Given.INHERIT:
        return request
    listed = {one.number: one for one in options.descriptors}
    for number in (int(path.name) for path in Path("/proc/self/fd").iterdir()):
        if number > 2 and number not in listed and _is_inheritable(number):
            listed[number] = PackedDescriptor(number, number, passed=True)
    options = dataclasses.replace(
        options,
        given=options.given & ~Given.INHERIT,
        descriptors=tuple(listed[number] for number in sorted(listed)),
    )
    return dataclasses.replace(request, options=options)


def _stdio(
    request: SpawnRequest, place: Callable[[int, Failure, str], int]
) -> tuple[int, int, int]:
    mapped = (request.options or NOTHING).mapped_stdio
    found = []
    for number, wanted in enumerate(request.stdio):
        if wanted >= 0:
            failure, detail = Failure(Failure.STDIN + number), f"descriptor {wanted}"
            if mapped & 1 << number:
                failure, detail = Failure.OPTIONS, f"fd_map[{number}]"
            found.append(place(wanted, failure, detail))
        elif wanted == INHERIT:
            found.append(place(number, Failure.STDIN, "") if _is_open(number) else NULL)
        else:
            found.append(wanted)
    stdin, stdout, stderr = found
    return stdin, stdout, stderr


def placed(spawn: Spawn, descriptors: Sequence[int]) -> SpawnRequest:
    """The request of a message, with these descriptors in their places."""
    request, options = spawn.request, spawn.request.options
    stdin, stdout, stderr = (at if at < 0 else descriptors[at] for at in request.stdio)
    if options is not None and options.descriptors:
        listed = tuple(one._replace(source=descriptors[one.source]) for one in options.descriptors)
        options = dataclasses.replace(options, descriptors=listed)
    request = dataclasses.replace(request, stdio=(stdin, stdout, stderr), options=options)
    return with_attributes(request, spawn.attributes)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the one that listed the folder
