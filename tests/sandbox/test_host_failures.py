"""What becomes of a host's sandboxes when something below it breaks, or when the host itself is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandpool.outcome import Ending
from tests.sandbox.conftest import IMAGES
from tests.sandbox.test_runsc import mounts_of, processes_of, program
from workers.images.store import ImageStore
from workers.sandbox.demand import WarmSpec
from workers.sandbox.errors import RunscHung, SandboxingUnavailable, SnapshotUnusable, UnknownSandbox
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.invocation import Deadlines, RunscSpec
from workers.sandbox.limits import Limits
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

LIMITS = Limits(memory_bytes=256 << 20, wall_s=20)
NO_SPARES = WarmSpec(memory_bytes=0)
Make = Callable[..., Host]
ROUNDS = 200


@pytest.fixture
def make(short_folder: Path, image_store: ImageStore, base_image: Image) -> Make:
    def new(name: str = "one", warm: WarmSpec = NO_SPARES, runsc: RunscSpec | None = None) -> Host:
        own = f"{short_folder.name.lower().replace('_', 'x')}-{name}"
        folder = str(short_folder / name)
        spec = HostSpec(folder=folder, images="", name=own, cpus=8, memory_bytes=2 << 30, warm=warm)
        return Host(spec, image_store, runsc)

    return new


async def use(host: Host) -> str | None:
    async with host.lease("base", LIMITS, tenant="a") as lease:
        return (await lease.session.run_code("6 * 7")).text


async def until_saved(host: Host) -> None:
    """The warm snapshot is there."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(host._sandboxes.snapshots.names):
            await asyncio.sleep(0.02)
        while host._stock._snapshots._making:
            await asyncio.sleep(0.02)


def everything(host: Host) -> dict[str, Any]:
    folder = Path(host.spec.folder)
    reaper = host._sandboxes.runsc._reaper
    return {
        "processes": len(processes_of(folder)),
        "groups": host._sandboxes.cgroups.leftovers(),
        "mounts": mounts_of(folder, IMAGES),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "reaper": len(os.listdir(f"/proc/{reaper.pid}/fd")) if reaper else 0,
        "promised": host.view().sandboxes,
    }


@pytest.mark.timeout(400)
async def test_two_hundred_leases_leave_nothing_behind(make: Make) -> None:
    """No process, cgroup, mount, file, socket, descriptor or promise: by use, crash, kill and cancellation."""
    host = make()
    await host.open()
    await use(host)
    await until_saved(host)
    await use(host)
    await host._starter.close()
    before = await asyncio.to_thread(everything, host)

    async def one(number: int) -> None:
        async with host.lease("base", LIMITS, tenant=f"t{number % 3}") as lease:
            (lease.inbox / "file").symlink_to("/etc/passwd")
            if number % 4 == 1:
                await lease.session.run_code("import os; os.kill(os.getpid(), 9)")
            elif number % 4 == 2:
                await lease.session.run_command(["/bin/sh", "-c", "sleep 100 >/dev/null 2>&1 & echo x"])
            elif number % 4 == 3:
                await lease.kill()

    for batch in range(0, ROUNDS, 4):
        tasks = [asyncio.create_task(one(number)) for number in range(batch, batch + 4)]
        if batch % 20 == 0:
            await asyncio.sleep(batch / 1000)
            tasks[0].cancel()
        await asyncio.wait(tasks)
    await host._starter.close()
    assert await asyncio.to_thread(everything, host) == before
    await host.close()


async def test_a_killed_host_leaves_nothing_but_what_was_paused(make: Make, request: pytest.FixtureRequest) -> None:
    host = make()
    script = f"""
import asyncio
from pathlib import Path
from workers.images.store import ImageStore
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.limits import Limits
async def main():
    spec = HostSpec(folder={host.spec.folder!r}, images="", name={host.spec.name!r}, cpus=8)
    host = Host(spec, ImageStore(Path({str(IMAGES)!r})))
    await host.open()
    paused = await host.kept.create("a", "base", lifetime_s=None)
    await host.kept.pause("a", paused.id)
    await host.kept.create("a", "base")
    async with host.lease("base", Limits(), tenant="a") as lease:
        (lease.inbox / "file").write_text("x")
        while not host.view().warm:
            await asyncio.sleep(0.02)
        print(paused.id, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    env = {**os.environ, "PYTHONPATH": str(request.config.rootpath)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    while (line := await asyncio.wait_for(process.stdout.readline(), 60)) and not line.startswith(b"sb-"):
        pass  # what it logs
    process.kill()
    await process.wait()
    folder = Path(host.spec.folder)
    async with asyncio.timeout(10):
        while await asyncio.to_thread(processes_of, folder):
            await asyncio.sleep(0.05)
    orphans = await host.open()
    assert len(orphans) >= 3
    assert await asyncio.to_thread(lambda: list((folder / "run").iterdir())) == []
    assert await asyncio.to_thread(host._sandboxes.cgroups.leftovers) == set()
    (view,) = host.kept.list_sandboxes("a")
    assert view.id == line.decode().strip()
    assert (await host.kept.run_code("a", view.id, "1")).text == "1"
    await host.close()


async def test_a_host_whose_reaper_is_gone_starts_another(make: Make) -> None:
    host = make()
    await host.open()
    kept = await host.kept.create("a", "base", LIMITS)
    async with host.lease("base", LIMITS, tenant="a") as lease:
        reaper = host._sandboxes.runsc._reaper
        assert reaper is not None
        reaper.kill()
        # The sandboxes themselves may live until they are swept up.
        assert (await lease.session.run_code("import time; time.sleep(15)")).ending is Ending.Failed
        ended = await lease.ended()
        assert ended is not None and ended.lost
        assert await use(host) == "42"
    async with asyncio.timeout(20):
        while host.kept.list_sandboxes("a") or host.view().sandboxes:
            await asyncio.sleep(0.05)
    with pytest.raises(UnknownSandbox):
        await host.kept.run_code("a", kept.id, "1")
    await host.close()


async def test_a_warm_snapshot_that_does_not_restore_is_made_again(make: Make) -> None:
    host = make()
    await host.open()
    await use(host)
    await until_saved(host)

    def spoil() -> Path:
        (name,) = host._sandboxes.snapshots.names()
        file = host._sandboxes.snapshots.folder / name / "checkpoint.img"
        file.write_bytes(os.urandom(file.stat().st_size))
        return file

    file = await asyncio.to_thread(spoil)
    broken = await asyncio.to_thread(file.read_bytes)
    assert await use(host) == "42"  # cold
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(file.exists) or await asyncio.to_thread(file.read_bytes) == broken:
            assert await use(host) == "42"
            await asyncio.sleep(0.1)
    await until_saved(host)
    assert await use(host) == "42"
    await host.close()


async def test_a_runsc_that_hangs_is_killed_and_reported_and_the_host_goes_on(make: Make, tmp_path: Path) -> None:
    block = tmp_path / "block"
    script = program(
        tmp_path, f'case "$*" in *" restore "*) [ -e {block} ] && {{ sleep 1000 & wait; }};; esac\nexec runsc "$@"'
    )
    deadlines = Deadlines(restore_s=2.0)
    runsc = RunscSpec(folder=Path(make().spec.folder) / "state", binary=script, deadlines=deadlines)
    host = make(runsc=runsc)
    await host.open()
    await use(host)
    await until_saved(host)
    await asyncio.to_thread(block.touch)
    with pytest.raises(RunscHung, match="within 2 s"):
        await use(host)
    await asyncio.to_thread(block.unlink)
    assert await use(host) == "42"
    await host._starter.close()
    assert host.view().sandboxes == 0
    await host.close()


async def test_a_snapshot_goes_through_a_volume_to_another_host(make: Make, tmp_path: Path) -> None:
    volume = await asyncio.to_thread(open_volume, VolumeSpec(name="v", url=(tmp_path / "volume").as_uri()))
    first, second = make("one"), make("two")
    await first.open()
    await second.open()
    made = await first.kept.create("a/../b", "base", LIMITS)
    await first.kept.run_code("a/../b", made.id, "n = 42; open('file', 'w').write('kept')")
    saved = await first.kept.snapshot("a/../b", made.id, "label")
    await first.kept.pause("a/../b", made.id)
    for any_id in (saved.id, made.id):
        await first.kept.push("a/../b", any_id, volume)
        await first.kept.push("a/../b", any_id, volume)
        with pytest.raises(UnknownSandbox):
            await second.kept.pull("other", any_id, volume)
        arrived = await second.kept.pull("a/../b", any_id, volume)
        copy = await second.kept.create("a/../b", snapshot=arrived.id)
        assert (await second.kept.run_code("a/../b", copy.id, "n, open('file').read()")).text == "(42, 'kept')"
    with pytest.raises(UnknownSandbox):
        await first.kept.push("other", saved.id, volume)
    await second.kept.destroy("a/../b", saved.id)

    def tamper() -> None:
        (pages,) = (tmp_path / "volume").rglob(f"{saved.id}/pages.img")
        content = bytearray(pages.read_bytes())
        content[len(content) // 2] ^= 1
        pages.write_bytes(content)

    await asyncio.to_thread(tamper)
    with pytest.raises(SnapshotUnusable):
        await second.kept.pull("a/../b", saved.id, volume)
    assert len(second.kept.list_snapshots("a/../b")) == 1
    await first.close()
    await second.close()


async def test_two_hosts_on_one_folder_are_refused_and_the_first_goes_on(make: Make) -> None:
    """Two installations on one node, or a host that was thought dead: neither sweeps the other's sandboxes."""
    first, second = make(), make()
    await first.open()
    try:
        with pytest.raises(SandboxingUnavailable, match="another process owns"):
            await second.open()
        assert await use(first) == "42"
    finally:
        await first.close()
    await second.open()
    assert await use(second) == "42"
    await second.close()
