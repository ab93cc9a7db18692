"""What happens to greedy code: each limit of `Limits` is hit, and the neighbours and the host do not notice."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace

import pytest

from tests.sandbox.inside import Inside
from workers.sandbox.bundle import Command
from workers.sandbox.image import Image
from workers.sandbox.limits import MIB, Limits
from workers.sandbox.sandboxes import Sandboxes

FILL = """
def fill(path):
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        return [errno.errorcode[error.errno], written]
"""


async def answers(inside: Inside) -> bool:
    return (await inside.run("/bin/echo", "still here")).stdout == b"still here\n"


async def test_fork_bomb_ends_at_the_limit_of_processes(inside: Inside, limits: Limits) -> None:
    code = """
children = 0
try:
    while True:
        if os.fork() == 0:
            import time; time.sleep(60)
        children += 1
except OSError as error:
    answer([children, errno.errorcode[error.errno]])
    os.killpg(0, 9)
"""
    finished = await inside.python(f"os.setpgid(0, 0)\n{code}", timeout_s=15)
    children, error = json.loads(finished.stdout)
    assert error == "EAGAIN"
    assert limits.processes - 5 <= children < limits.processes


async def test_thread_bomb_ends_at_the_limit_of_processes(inside: Inside, limits: Limits) -> None:
    code = """
import threading, time
try:
    for started in range(100_000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
except RuntimeError:
    answer(started); sys.stdout.flush(); os._exit(0)
"""
    assert limits.processes - 5 <= await inside.ask(code) < limits.processes


async def test_relentless_fork_bomb_leaves_the_neighbour_alone(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    bomb = Command(argv=("/bin/sh", "-c", "b() { b | b & }; b; sleep 30"))
    first = await sandboxes.create(base_image, limits, bomb)
    second = Inside(sandboxes, await sandboxes.create(base_image, limits))
    await asyncio.sleep(1)
    assert await answers(second)
    assert len(await asyncio.to_thread(sandboxes.cgroups.pids, first.id)) <= limits.host_threads
    await sandboxes.destroy(first.id)
    assert await asyncio.to_thread(sandboxes.cgroups.pids, first.id) == []


async def test_memory_hog_is_killed_and_counted(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    hog = Command(argv=("/usr/bin/python3", "-c", "hoard = []\nwhile True: hoard.append(bytearray(1 << 24))"))
    first = await sandboxes.create(base_image, limits, hog)
    second = Inside(sandboxes, await sandboxes.create(base_image, limits))
    assert await sandboxes.wait(first.id, 15) != 0
    ended = await sandboxes.destroy(first.id)
    assert ended.out_of_memory
    assert ended.usage.peak_memory_bytes <= limits.memory_bytes
    assert await answers(second)
    assert not (await second.destroy()).out_of_memory


@pytest.mark.parametrize(
    ("path", "limit"), [("/home/sandpool", "disk_bytes"), ("/tmp", "tmp_bytes"), ("/dev/shm", "shm_bytes")]
)
async def test_disk_filler_is_stopped_at_its_limit(inside: Inside, limits: Limits, path: str, limit: str) -> None:
    error, written = await inside.ask(f"{FILL}answer(fill('{path}/filler'))")
    assert error in ("ENOSPC", "EFBIG")
    assert getattr(limits, limit) - 2 * MIB <= written <= getattr(limits, limit)
    assert await answers(inside)


async def test_many_files_share_one_limit_of_disk(inside: Inside, limits: Limits) -> None:
    code = f"{FILL}\nanswer(sum(fill(f'/home/sandpool/{{i}}')[1] for i in range(5)))"
    assert await inside.ask(code) <= limits.disk_bytes


async def test_inode_filler_costs_only_its_own_memory(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    small = replace(limits, memory_bytes=128 * MIB)
    code = "import os\nfor i in range(10**9): os.mkdir(f'/tmp/{i}')"
    first = await sandboxes.create(base_image, small, Command(argv=("/usr/bin/python3", "-c", code)))
    second = Inside(sandboxes, await sandboxes.create(base_image, limits))
    assert await sandboxes.wait(first.id, 30) != 0
    assert (await sandboxes.destroy(first.id)).out_of_memory
    assert await answers(second)


async def test_file_descriptor_hog_gets_an_error(inside: Inside, limits: Limits) -> None:
    code = """
held = []
try:
    while True:
        held.append(os.open("/etc/passwd", os.O_RDONLY))
except OSError as error:
    count, name = len(held), errno.errorcode[error.errno]
    for descriptor in held: os.close(descriptor)
    answer([count, name])
"""
    count, error = await inside.ask(code)
    assert error == "EMFILE"
    assert limits.open_files - 10 <= count < limits.open_files


async def test_descriptors_of_many_processes_do_not_exhaust_the_host(inside: Inside, limits: Limits) -> None:
    before = int(open("/proc/sys/fs/file-nr").read().split()[0])  # noqa: ASYNC230, SIM115
    code = """
import time
for _ in range(30):
    if os.fork() == 0:
        held = []
        while attempt(lambda: held.append(os.open(f"/usr/bin/python3", os.O_RDONLY))) == "done": pass
        time.sleep(1.5); os._exit(0)
time.sleep(1); answer("held")
"""
    assert await inside.ask(code) == "held"
    after = int(open("/proc/sys/fs/file-nr").read().split()[0])  # noqa: ASYNC230, SIM115
    assert after - before <= 2 * limits.open_files * 30 + 2000


async def test_limits_cannot_be_raised_from_inside(inside: Inside) -> None:
    code = """
import resource
def lift(kind):
    try:
        resource.setrlimit(kind, (1 << 30, 1 << 30))
    except (ValueError, OSError):
        return "refused"
    return "done"
kinds = (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)
answer([lift(kind) for kind in kinds])
"""
    assert set(await inside.ask(code)) == {"refused"}


async def test_cpu_hog_gets_no_more_than_its_share(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    burn = "import threading\ndef burn():\n  while True: pass\nfor _ in range(4): threading.Thread(target=burn).start()"
    sandbox = await sandboxes.create(
        base_image, replace(limits, cpus=0.25), Command(argv=("/usr/bin/python3", "-c", burn))
    )
    await asyncio.sleep(0.5)
    start, before = time.monotonic(), (await sandboxes.usage(sandbox.id)).cpu_s
    await asyncio.sleep(1.5)
    used = (await sandboxes.usage(sandbox.id)).cpu_s - before
    assert 0 < used / (time.monotonic() - start) <= 0.25 * 1.3


async def test_stdout_flood_is_cut_at_the_limit_of_output(inside: Inside, limits: Limits) -> None:
    finished = await inside.run("/bin/sh", "-c", "yes flood")
    assert finished.capped
    assert finished.code is None
    assert len(finished.stdout) == limits.output_bytes
    assert await answers(inside)


async def test_stderr_and_stdout_share_one_limit_of_output(inside: Inside, limits: Limits) -> None:
    finished = await inside.run("/bin/sh", "-c", "yes flood & yes flood >&2")
    assert finished.capped
    assert len(finished.stdout) + len(finished.stderr) == limits.output_bytes


async def test_a_command_that_takes_too_long_is_killed(inside: Inside) -> None:
    started = time.monotonic()
    finished = await inside.run("/bin/sleep", "60", timeout_s=0.5)
    assert finished.timed_out
    assert finished.code is None
    assert time.monotonic() - started < 5
    async with asyncio.timeout(10):
        while b"sleep 60" in (await inside.run("/bin/sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '")).stdout:
            await asyncio.sleep(0.05)
    assert await answers(inside)


async def test_output_of_a_process_left_behind_does_not_hold_the_command(inside: Inside) -> None:
    started = time.monotonic()
    finished = await inside.run("/bin/sh", "-c", "echo done; sleep 60 &")
    assert (finished.code, finished.stdout) == (0, b"done\n")
    assert time.monotonic() - started < 5


async def test_binary_output_and_a_closed_stdout_are_harmless(inside: Inside) -> None:
    everything = bytes(range(256)) * 64
    assert (await inside.run("/bin/cat", stdin=everything)).stdout == everything
    assert (await inside.python("os.close(1); os.close(2)")).code == 0


async def test_a_crash_leaves_no_core_file(inside: Inside) -> None:
    finished = await inside.python("os.kill(os.getpid(), 11)")
    assert finished.code == 128 + 11
    assert await inside.ask("answer(os.listdir(os.environ['HOME']))") == []


async def test_the_memory_of_the_host_stays_flat_under_a_flood(inside: Inside) -> None:
    def resident_kib() -> int:
        with open(f"/proc/{os.getpid()}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    await inside.run("/bin/sh", "-c", "yes")
    before = await asyncio.to_thread(resident_kib)
    for _ in range(5):
        await inside.run("/bin/sh", "-c", "yes")
    assert await asyncio.to_thread(resident_kib) - before < 8 * 1024
