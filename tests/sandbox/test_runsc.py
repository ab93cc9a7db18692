"""The life of sandboxes by real runsc, and what happens when runsc, its reaper or the host itself fail."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sandbox.inside import Inside
from workers.sandbox.bundle import Bind, Command, build_spec
from workers.sandbox.errors import (
    ReaperLost,
    RunscFailed,
    RunscHung,
    RunscMissing,
    RunscUnsuitable,
    SandboxingUnavailable,
    SpecInvalid,
    UnknownSandbox,
)
from workers.sandbox.image import Image
from workers.sandbox.invocation import Deadlines, Launch, RunscSpec
from workers.sandbox.limits import Limits
from workers.sandbox.runsc import Runsc
from workers.sandbox.sandboxes import IDLE, Sandboxes, _write_bundle


def program(folder: Path, text: str) -> str:
    """An executable shell script in place of runsc."""
    file = folder / "runsc"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def processes_of(folder: Path) -> list[str]:
    """Command lines of every process that has to do with this folder, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def mounts_of(*folders: Path) -> list[str]:
    """Every mount that has to do with these folders; what others mount meanwhile is theirs."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if any(str(folder) in line for folder in folders)]


async def test_each_step_of_a_sandbox_by_hand(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    runsc, folder = sandboxes.runsc, sandboxes.folder / "run" / "step"
    spec = build_spec(base_image, limits, IDLE, (), sandboxes.cgroups.place("step"))
    await asyncio.to_thread(_write_bundle, folder, spec)
    await runsc.create("step", Launch(bundle=folder))
    assert (await runsc.state("step")).status == "created"
    await runsc.start_process("step")
    assert [(state.sandbox_id, state.status) for state in await runsc.list_states()] == [("step", "running")]
    assert not runsc.has_ended("step")
    await runsc.kill("step", signal.SIGKILL)
    assert await runsc.wait("step", 10) == 128 + 9
    await sandboxes.destroy("step")
    assert await runsc.list_states() == ()
    with pytest.raises(UnknownSandbox):
        await runsc.state("step")


async def test_the_exit_code_of_the_first_process_is_told(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    sandbox = await sandboxes.create(base_image, limits, Command(argv=("/bin/sh", "-c", "exit 7")))
    assert await sandboxes.wait(sandbox.id, 10) == 7
    assert (await sandboxes.destroy(sandbox.id)).code == 7


async def test_output_of_the_first_process_goes_to_the_given_pipes(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    read_end, write_end = os.pipe()
    command = Command(argv=("/bin/sh", "-c", "echo out; echo err >&2"), env={"NAME": "value"})
    sandbox = await sandboxes.create(base_image, limits, command, stdio=(None, write_end, write_end))
    os.close(write_end)
    await sandboxes.wait(sandbox.id, 10)
    await sandboxes.destroy(sandbox.id)
    with os.fdopen(read_end) as pipe:
        assert await asyncio.to_thread(pipe.read) == "out\nerr\n"


async def test_a_command_that_does_not_exist_ends_like_in_a_shell(inside: Inside) -> None:
    finished = await inside.run("/no/such/program")
    assert (finished.code, finished.stderr) == (127, b"no such file or directory")


async def test_destroying_twice_and_destroying_nothing_are_fine(inside: Inside) -> None:
    await inside.destroy()
    assert (await inside.destroy()).code is None
    with pytest.raises(UnknownSandbox):
        await inside.run("/bin/true")


async def test_a_sandbox_is_destroyed_within_a_tenth_of_a_second(inside: Inside) -> None:
    await inside.run("/bin/sh", "-c", "for i in 1 2 3 4 5; do sleep 100 & done")
    started = time.monotonic()
    await inside.destroy()
    assert time.monotonic() - started < 0.5  # 20 to 30 ms on an idle machine, seconds without the reaper


async def test_a_sentry_killed_from_outside_is_noticed_at_once(inside: Inside) -> None:
    sandboxes, sandbox = inside.sandboxes, inside.sandbox
    await asyncio.to_thread(sandboxes.cgroups.kill, sandbox.id)
    assert await sandboxes.wait(sandbox.id, 2) == -signal.SIGKILL
    assert (await inside.destroy()).code == -signal.SIGKILL


async def test_exit_statuses_of_the_hosts_own_subprocesses_are_not_stolen(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    async def own() -> int:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "sleep 0.05; exit 3")
        return await process.wait()

    async def sandbox() -> None:
        made = await sandboxes.create(base_image, limits)
        await sandboxes.destroy(made.id)

    codes = await asyncio.gather(*(own() for _ in range(20)), *(sandbox() for _ in range(4)))
    assert codes[:20] == [3] * 20


async def test_a_failed_start_leaves_nothing(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    mounts = [Bind(source=tmp_path / "absent", target="/in")]
    with pytest.raises(RunscFailed, match="No such file or directory"):
        await sandboxes.create(base_image, limits, mounts=mounts, sandbox_id="broken")
    assert sandboxes.ids() == set()
    assert await sandboxes.reconcile() == []
    assert await asyncio.to_thread(lambda: list((sandboxes.folder / "run").iterdir())) == []


async def test_a_cancelled_start_leaves_nothing(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    for delay_s in (0.0, 0.01, 0.05, 0.1, 0.15):
        task = asyncio.create_task(sandboxes.create(base_image, limits))
        await asyncio.sleep(delay_s)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():  # it was faster
            await sandboxes.destroy(task.result().id)
    assert sandboxes.ids() == set()
    assert await sandboxes.reconcile() == []
    assert await asyncio.to_thread(processes_of, sandboxes.folder / "run") == []


async def test_a_start_cancelled_again_while_it_cleans_up_leaves_nothing(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    for delay_s in (0.02, 0.06, 0.1):
        task = asyncio.create_task(sandboxes.create(base_image, limits))
        await asyncio.sleep(delay_s)
        for _ in range(10):
            task.cancel()
            await asyncio.sleep(0.005)
        await asyncio.wait([task])
        if not task.cancelled():  # it was faster
            await sandboxes.destroy(task.result().id)
    assert sandboxes.ids() == set()
    assert await sandboxes.reconcile() == []


async def test_an_id_is_given_only_once(inside: Inside) -> None:
    with pytest.raises(SpecInvalid):
        await inside.sandboxes.create(inside.sandbox.image, inside.sandbox.limits, sandbox_id=inside.sandbox.id)
    assert (await inside.run("/bin/true")).code == 0


async def test_one_folder_has_one_owner(sandboxes: Sandboxes) -> None:
    with pytest.raises(SandboxingUnavailable, match="another process"):
        await Sandboxes(sandboxes.folder, name="second").open()


async def test_sandboxes_end_with_their_host_even_when_it_is_killed(
    short_folder: Path, base_image: Image, request: pytest.FixtureRequest
) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes
async def main():
    host = Sandboxes(Path({str(short_folder / "host")!r}), name="killed")
    await host.open()
    image = Image(name="base", digest="0" * 64, rootfs=Path({str(base_image.rootfs)!r}))
    for _ in range(2):
        await host.create(image, Limits())
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    root = str(request.config.rootpath)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
    assert len(await asyncio.to_thread(processes_of, short_folder)) >= 4
    process.kill()
    await process.wait()
    deadline = time.monotonic() + 5
    while await asyncio.to_thread(processes_of, short_folder) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert await asyncio.to_thread(processes_of, short_folder) == []
    successor = Sandboxes(short_folder / "host", name="killed")
    assert len(await successor.open()) == 2
    assert await successor.reconcile() == []
    await successor.close()


async def test_a_host_without_its_reaper_says_so_and_can_start_again(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    sandbox = await sandboxes.create(base_image, limits)
    reaper = sandboxes.runsc._reaper
    assert reaper is not None
    reaper.kill()
    assert await sandboxes.wait(sandbox.id, 5) == -signal.SIGKILL
    with pytest.raises(ReaperLost):
        await sandboxes.create(base_image, limits)
    assert await sandboxes.recover() == [sandbox.id]
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits))
    assert (await inside.run("/bin/true")).code == 0


async def test_missing_runsc_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(RunscMissing, match="not installed") as caught:
        await Runsc(RunscSpec(folder=tmp_path, binary="no-such-runsc")).start()
    assert "make setup" in caught.value.hint


@pytest.mark.parametrize("says", ["echo runsc version 0.0~20220101.0", "echo something else", "exit 3", "true"])
async def test_unsuitable_runsc_is_a_typed_error(tmp_path: Path, says: str) -> None:
    runsc = Runsc(RunscSpec(folder=tmp_path, binary=program(tmp_path, says)))
    with pytest.raises(RunscUnsuitable):
        await runsc.start()
    assert not runsc.alive


async def test_hung_runsc_is_killed_and_reported(tmp_path: Path) -> None:
    script = program(
        tmp_path, 'case "$1" in --version) echo runsc version 0.0~20240729.0;; *) sleep 1000 & wait;; esac'
    )
    runsc = Runsc(RunscSpec(folder=tmp_path, binary=script, deadlines=Deadlines(query_s=0.3, create_s=0.3)))
    await runsc.start()
    with pytest.raises(RunscHung, match=r"within 0\.3 s"):
        await runsc.list_states()
    with pytest.raises(RunscHung):
        await runsc.run("some", Launch(bundle=tmp_path))
    await asyncio.sleep(0.1)
    assert [line for line in await asyncio.to_thread(processes_of, tmp_path) if script in line] == []
    assert runsc.alive
    await runsc.close()


@pytest.mark.timeout(300)
async def test_two_hundred_sandboxes_leave_nothing_behind(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    """No process, cgroup, mount, file, socket or descriptor; also by restore, by a crash and by a cancelled start."""

    def everything() -> dict[str, object]:
        state, run = sandboxes.folder / "state", sandboxes.folder / "run"
        return {
            "processes": len(processes_of(sandboxes.folder)),
            "groups": sandboxes.cgroups.leftovers(),
            "mounts": mounts_of(sandboxes.folder, base_image.rootfs),
            "files": sorted(path.name for folder in (state, run) for path in folder.rglob("*")),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "reaper": len(os.listdir(f"/proc/{sandboxes.runsc._reaper.pid}/fd")) if sandboxes.runsc._reaper else 0,
        }

    made = await sandboxes.create(base_image, limits)
    snapshot = await sandboxes.snapshot(made.id, "seed", leave_running=False)
    before = await asyncio.to_thread(everything)

    async def one(number: int) -> None:
        if number % 4 == 0:
            sandbox = await sandboxes.create(base_image, limits)
        else:
            sandbox = await sandboxes.restore(snapshot, base_image)
        if number % 8 == 1:
            await sandboxes.execute(sandbox.id, Command(argv=("/bin/sh", "-c", "sleep 100 & echo x")))
        if number % 8 == 3:
            await asyncio.to_thread(sandboxes.cgroups.kill, sandbox.id)
        await sandboxes.destroy(sandbox.id)

    for batch in range(0, 200, 4):
        await asyncio.gather(*(one(number) for number in range(batch, batch + 4)))
    assert await asyncio.to_thread(everything) == before
