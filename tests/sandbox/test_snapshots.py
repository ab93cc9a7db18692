"""Checkpoint and restore by real runsc: what comes back, how often, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.sandbox.inside import Inside
from workers.sandbox.bundle import Bind, Command
from workers.sandbox.errors import (
    CheckpointRefused,
    SandboxEnded,
    SandboxError,
    SnapshotSpaceExhausted,
    SnapshotUnusable,
    SpecInvalid,
)
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.snapshot import META, Snapshot

COUNTER = Command(
    argv=(
        "/usr/bin/python3",
        "-c",
        "import time\nn=0\nwhile True: n+=1; open('/tmp/n','w').write(str(n)); time.sleep(.01)",
    )
)


async def count(sandboxes: Sandboxes, sandbox_id: str) -> int:
    for _ in range(50):
        finished = await sandboxes.execute(sandbox_id, Command(argv=("/bin/cat", "/tmp/n")))
        if finished.stdout.strip():  # empty in the instant between truncation and write
            return int(finished.stdout)
        await asyncio.sleep(0.02)
    raise AssertionError("the counter does not count")


async def test_memory_and_files_come_back_and_go_on(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    first = await sandboxes.create(base_image, limits, COUNTER)
    await sandboxes.execute(
        first.id, Command(argv=("/bin/sh", "-c", "echo kept > $HOME/file; echo shared > /dev/shm/s"))
    )
    before = await count(sandboxes, first.id)
    snapshot = await sandboxes.snapshot(first.id, "one", leave_running=False)
    assert sandboxes.ids() == set()
    second = Inside(sandboxes, await sandboxes.restore(snapshot, base_image))
    assert (await second.run("/bin/sh", "-c", "cat $HOME/file /dev/shm/s")).stdout == b"kept\nshared\n"
    after = await count(sandboxes, second.sandbox.id)
    assert before <= after
    async with asyncio.timeout(20):
        while await count(sandboxes, second.sandbox.id) == after:
            await asyncio.sleep(0.02)


async def test_a_pause_repeats_nothing_that_was_seen_outside(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    mounts = [Bind(source=tmp_path, target="/out", writable=True)]
    code = (
        "import time\nn=0\nlog=open('/out/log','a')\nwhile True: n+=1; print(n, file=log, flush=True); time.sleep(.001)"
    )
    sandbox = await sandboxes.create(base_image, limits, Command(argv=("/usr/bin/python3", "-c", code)), mounts=mounts)
    log = tmp_path / "log"

    async def grown_by(lines: int) -> None:
        size = log.stat().st_size if log.exists() else 0
        async with asyncio.timeout(30):
            while not log.exists() or log.stat().st_size < size + lines * len("100\n"):
                await asyncio.sleep(0.02)

    await grown_by(200)
    for _ in range(2):
        snapshot = await sandboxes.snapshot(sandbox.id, "paused", leave_running=False)
        sandbox = await sandboxes.restore(snapshot, base_image, mounts=mounts)
        await grown_by(50)
    await sandboxes.destroy(sandbox.id)
    numbers = [int(line) for line in log.read_text().split()]
    assert len(numbers) > 100
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_snapshot_leaves_the_sandbox_running(inside: Inside) -> None:
    snapshot = await inside.sandboxes.snapshot(inside.sandbox.id, "one")
    assert (await inside.run("/bin/echo", "on")).stdout == b"on\n"
    assert snapshot.size_bytes > 100_000


async def test_forks_of_one_snapshot_do_not_share_files(inside: Inside) -> None:
    await inside.run("/bin/sh", "-c", "echo common > /tmp/file")
    snapshot = await inside.sandboxes.snapshot(inside.sandbox.id, "seed")
    forks = [
        Inside(inside.sandboxes, one) for one in await inside.sandboxes.fork(snapshot, inside.sandbox.image, [[]] * 3)
    ]
    for number, fork in enumerate(forks):
        await fork.run("/bin/sh", "-c", f"echo {number} >> /tmp/file")
    read = [(await fork.run("/bin/cat", "/tmp/file")).stdout for fork in (*forks, inside)]
    assert read == [b"common\n0\n", b"common\n1\n", b"common\n2\n", b"common\n"]


async def test_a_fork_makes_all_or_none(inside: Inside, tmp_path: Path) -> None:
    sandboxes, image = inside.sandboxes, inside.sandbox.image
    snapshot = await sandboxes.snapshot(inside.sandbox.id, "seed")
    absent = [Bind(source=tmp_path / "absent", target="/in")]
    with pytest.raises(SandboxError):
        await sandboxes.fork(snapshot, image, [[], absent, []])
    cancelled = asyncio.create_task(sandboxes.fork(snapshot, image, [[], []]))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert sandboxes.ids() == {inside.sandbox.id}
    assert await sandboxes.reconcile() == []


async def test_limits_of_a_restored_sandbox_hold(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    seed = await sandboxes.create(base_image, limits)
    snapshot = await sandboxes.snapshot(seed.id, "seed", leave_running=False)
    inside = Inside(sandboxes, await sandboxes.restore(snapshot, base_image))
    code = """
def fill():
    with open("/tmp/x", "wb", buffering=0) as file:
        while True: file.write(bytes(1 << 20))
answer([attempt(fill), os.stat("/tmp/x").st_size])
"""
    error, size_bytes = await inside.ask(code)
    assert error in ("ENOSPC", "EFBIG")
    assert size_bytes <= limits.tmp_bytes
    with pytest.raises(SandboxEnded):
        await inside.python("hoard = []\nwhile True: hoard.append(bytearray(1 << 24))")
    assert (await inside.destroy()).out_of_memory


async def test_a_restore_gets_its_own_mounts(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    seed = await sandboxes.create(base_image, limits, mounts=[Bind(source=tmp_path / "first", target="/in")])
    snapshot = await sandboxes.snapshot(seed.id, "seed", leave_running=False)
    with pytest.raises(SpecInvalid, match="/in"):
        await sandboxes.restore(snapshot, base_image)
    mounts = [Bind(source=tmp_path / "second", target="/in")]
    inside = Inside(sandboxes, await sandboxes.restore(snapshot, base_image, mounts=mounts))
    assert (await inside.run("/bin/cat", "/in/who")).stdout == b"second"
    assert await inside.ask("answer(attempt(os.open, '/in/who', os.O_TRUNC))") in ("EROFS", "EACCES")
    assert (tmp_path / "second" / "who").read_text() == "second"


async def test_a_checkpoint_is_refused_while_a_host_socket_is_open(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, short_folder: Path
) -> None:
    folder = short_folder / "door"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "host.sock"))
        (folder / "host.sock").chmod(0o777)
        server.listen()
        server.setblocking(False)
        hold = (
            "import socket,time; s=socket.socket(socket.AF_UNIX); s.connect('/run/sandpool/host.sock'); time.sleep(600)"
        )
        sandbox = await sandboxes.create(
            base_image,
            limits,
            Command(argv=("/usr/bin/python3", "-c", hold)),
            mounts=[Bind(source=folder, target="/run/sandpool")],
        )
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(server), 10)
        with pytest.raises(CheckpointRefused):
            await sandboxes.snapshot(sandbox.id, "refused")
        assert (await sandboxes.execute(sandbox.id, Command(argv=("/bin/true",)))).code == 0
        connection.close()
    assert await asyncio.to_thread(sandboxes.snapshots.names) == []


async def test_no_room_on_disk_is_a_typed_error_and_costs_nothing(
    inside: Inside, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inside.run("/bin/sh", "-c", "echo kept > /tmp/file; head -c 4000000 /dev/urandom > /tmp/ballast")
    place = short_folder / "host" / "snapshots"
    await asyncio.to_thread(place.mkdir, exist_ok=True)
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        with pytest.raises(SnapshotSpaceExhausted, match="MiB are free"):
            await inside.sandboxes.snapshot(inside.sandbox.id, "one")
        # And when the disk fills up only while the checkpoint is written:
        monkeypatch.setattr("workers.sandbox.snapshot.SPARE_BYTES", -(1 << 40))
        with pytest.raises(SnapshotSpaceExhausted):
            await inside.sandboxes.snapshot(inside.sandbox.id, "one")
        assert await asyncio.to_thread(inside.sandboxes.snapshots.names) == []
    finally:
        # Lazily: a runsc that has just ended may hold its own copy of the mount for a moment more.
        await asyncio.to_thread(subprocess.run, ["umount", "-l", place], check=True)
    assert (await inside.run("/bin/cat", "/tmp/file")).stdout == b"kept\n"


@pytest.mark.parametrize("damage", ["pages.img", "checkpoint.img", "pages_meta.img"])
async def test_a_damaged_snapshot_is_unusable_and_leaves_nothing(inside: Inside, damage: str) -> None:
    sandboxes, image = inside.sandboxes, inside.sandbox.image
    snapshot = await sandboxes.snapshot(inside.sandbox.id, "one")
    file = snapshot.folder / damage
    size = file.stat().st_size

    def shorten() -> None:
        with file.open("r+b") as content:
            content.truncate(size // 2)

    await asyncio.to_thread(shorten)
    with pytest.raises(SnapshotUnusable):
        await asyncio.to_thread(sandboxes.snapshots.load, "one")
    if damage != "pages.img":  # missing pages are read as they are needed
        with pytest.raises(SnapshotUnusable):
            await sandboxes.restore(snapshot, image)
    assert sandboxes.ids() == {inside.sandbox.id}
    assert await sandboxes.reconcile() == []


async def test_a_snapshot_of_another_kind_of_machine_is_refused(inside: Inside) -> None:
    sandboxes = inside.sandboxes
    snapshot = await sandboxes.snapshot(inside.sandbox.id, "one")
    for field in ("image", "runsc", "platform", "cpu"):
        key = msgspec.structs.replace(snapshot.meta.key, **{field: "other"})
        foreign = Snapshot(name="one", folder=snapshot.folder, meta=msgspec.structs.replace(snapshot.meta, key=key))
        with pytest.raises(SnapshotUnusable, match=field):
            await sandboxes.restore(foreign, inside.sandbox.image)


async def test_snapshots_survive_the_host(short_folder: Path, base_image: Image, limits: Limits) -> None:
    first = Sandboxes(short_folder / "host", name="survive")
    await first.open()
    sandbox = await first.create(base_image, limits, COUNTER)
    await first.snapshot(sandbox.id, "paused", leave_running=False)
    (short_folder / "host" / "snapshots" / ".draft-dead").mkdir()
    await first.close()
    second = Sandboxes(short_folder / "host", name="survive")
    assert await second.open() == []
    snapshot = await asyncio.to_thread(second.snapshots.load, "paused")
    assert snapshot is not None
    assert await asyncio.to_thread(second.snapshots.names) == ["paused"]
    assert not (short_folder / "host" / "snapshots" / ".draft-dead").exists()
    resumed = await second.restore(snapshot, base_image, limits=replace(limits, memory_bytes=512 << 20))
    assert await count(second, resumed.id) > 0
    await second.close()
    assert (snapshot.folder / META).exists()
