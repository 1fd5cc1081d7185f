"""A Python task that awaits its signals: what comes it writes to stdout, a line each."""

import signal
import sys

import anyio

import aiopip


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main() -> None:
    me = aiopip.this_task()
    with me.signals(signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3) as signals:
        say("ready")
        async for number in signals:
            say(repr(number))
            if number == signal.SIGTERM:
                break
    say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)


anyio.run(main, backend=sys.argv[1], backend_options={"use_uvloop": True} if sys.argv[2:] else {})
