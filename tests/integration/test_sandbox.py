"""Where system calls are refused, the ways around them keep the same promises.

The rules are installed by seccomp in a process of its own, before a Root is opened there.
"""

from __future__ import annotations

import pytest
from support import run_python

DENY = """
    import asyncio, ctypes, os, struct, subprocess, sys
    EPERM, ENOSYS = 1, 38
    def deny(rules):
        # struct sock_filter: load the number, return an errno for what is denied, else allow.
        code = struct.pack("HBBI", 0x20, 0, 0, 0)
        for number, error in rules.items():
            code += struct.pack("HBBI", 0x15, 0, 1, number)
            code += struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error)
        code += struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, ctypes.get_errno()
"""

USE = """
    import aiopip
    async def output(root, *line, **options):
        reader, writer = os.pipe()
        task = await root.spawn(*line, stdout=writer, **options)
        os.close(writer)
        assert await task.wait() == 0
        with os.fdopen(reader) as file:
            return file.read()
    def read(path):
        with open(path) as file:
            return file.read()
    def children():
        threads = os.listdir("/proc/self/task")
        return "".join(read(f"/proc/self/task/{thread}/children") for thread in threads)
    async def main():
        async with aiopip.Root(grace_s=0.2) as root:
            for code in range(20):
                assert await (await root.spawn("sh", "-c", f"exit {code}")).wait() == code
            assert await output(root, "echo", "x") == "x\\n"
            status = await output(root, "cat", "/proc/self/status")
            assert "SigCgt:\\t0000000000000000" in status, status
            # Descriptors of the root reach no task.
            kept = [os.open("/dev/zero", os.O_RDONLY) for _ in range(5)]
            for number in kept: os.set_inheritable(number, True)
            script = "n=0; while [ $n -lt 40 ]; do"
            script += " test -e /proc/self/fd/$n && echo $n; n=$((n + 1)); done; true"
            listed = await output(root, "sh", "-c", script)
            assert listed.split() == ["0", "1", "2"], listed
            for number in kept: os.close(number)
            tasks = [await root.spawn("sleep", "1000") for _ in range(10)]
            root.kill_all()
            assert [await task.wait() for task in tasks] == [-9] * 10
            execs = await root.spawn("sh", "-c", "exec sh -c 'exit 9'")
            assert await execs.wait() == 9
            for count in range(6):
                spawning = asyncio.create_task(root.spawn("sleep", "1000"))
                for _ in range(count): await asyncio.sleep(0)
                spawning.cancel()
                try:
                    (await spawning).kill()
                except asyncio.CancelledError:
                    pass
            spawner = "import subprocess\\nwhile True: subprocess.run(['true'])"
            looping = [await root.spawn(sys.executable, "-c", spawner) for _ in range(3)]
            await asyncio.sleep(0.3)
            root.kill_all()
            for task in looping: await task.wait()
            for _ in range(5000):
                now = root.statistics()
                if not (now.alive or now.reclaiming): break
                await asyncio.sleep(0.002)
            else:
                raise SystemExit(f"memory stays: {now}")
            print(now.has_clone3, now.private_descriptors, now.has_kcmp)
            mappings = read("/proc/self/maps").count("\\n")
            for _ in range(100):
                assert await (await root.spawn("true")).wait() == 0
            for _ in range(5000):
                if not root.statistics().reclaiming: break
                await asyncio.sleep(0.002)
            after = read("/proc/self/maps").count("\\n")
            assert after <= mappings + 4, (mappings, after)
        assert not children()
    before = sorted(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    asyncio.run(main())
    assert sorted(os.listdir("/proc/self/fd")) == before
"""

CLONE3, PIDFD_GETFD, KCMP, CLOSE_RANGE, SECCOMP = 435, 438, 312, 436, 317
MEMFD_CREATE = 319


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ({}, "True True True"),
        ({CLONE3: "ENOSYS"}, "False True True"),
        ({PIDFD_GETFD: "EPERM"}, "True False True"),
        ({KCMP: "EPERM"}, "True True False"),
        ({CLOSE_RANGE: "ENOSYS"}, "True False True"),
        ({CLONE3: "ENOSYS", PIDFD_GETFD: "EPERM", KCMP: "EPERM"}, "False False False"),
    ],
    ids=["nothing", "clone3", "pidfd_getfd", "kcmp", "close_range", "Docker's default profile"],
)
def test_denied_system_calls(rules: dict[int, str], found: str) -> None:
    listed = ", ".join(f"{number}: {error}" for number, error in rules.items())
    done = run_python(f"{DENY}    deny({{{listed}}})\n{USE}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [found, found]
