"""Kept sandboxes on real runsc: every transition, what survives which end, and whose they are."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sandpool.outcome import Ending
from workers.images.store import ImageStore
from workers.sandbox.errors import (
    HostClosed,
    HostFull,
    SessionBusy,
    SnapshotSpaceExhausted,
    SpecInvalid,
    UnknownSandbox,
)
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.kept import KeptSandboxes
from workers.sandbox.limits import Limits
from workers.sandbox.transitions import State

ME, OTHER = "tenant-a", "tenant-b"
SMALL = Limits(memory_bytes=256 << 20, cpus=0.5, wall_s=30, output_bytes=100_000)


@pytest.fixture
def new_host(short_folder: Path, image_store: ImageStore, base_image: Image) -> Callable[[], Host]:
    name = short_folder.name.lower().replace("_", "x")
    folder = str(short_folder / "host")
    spec = HostSpec(folder=folder, images="", name=name, cpus=4, memory_bytes=1 << 30, most_paused=4)
    return lambda: Host(spec, image_store)


@pytest.fixture
async def host(new_host: Callable[[], Host]) -> AsyncIterator[Host]:
    host = new_host()
    await host.open()
    yield host
    await host.close()


@pytest.fixture
def kept(host: Host) -> KeptSandboxes:
    return host.kept


async def said(kept: KeptSandboxes, sandbox_id: str, code: str) -> str | None:
    execution = await kept.run_code(ME, sandbox_id, code)
    assert execution.ending is Ending.Succeeded, execution
    return execution.text


async def test_state_and_files_go_on_through_pause_and_resume(host: Host, kept: KeptSandboxes) -> None:
    made = await kept.create(ME, limits=SMALL)
    await said(kept, made.id, "n = 41; open('file', 'w').write('kept')")
    paused = await kept.pause(ME, made.id)
    assert (paused.state, paused.disk_bytes > 1 << 20) == (State.Paused, True)
    assert (host.view().sandboxes, host.view().paused) == (0, 1)
    assert made.id not in await asyncio.to_thread(host._sandboxes.cgroups.leftovers)
    assert (await kept.pause(ME, made.id)).state is State.Paused
    assert (await kept.resume(ME, made.id)).state is State.Running
    assert await said(kept, made.id, "n += 1; n, open('file').read()") == "(42, 'kept')"
    assert host.view().paused == 0
    await kept.pause(ME, made.id)
    command = await kept.run_command(ME, made.id, ["/bin/cat"], stdin=b"resumed by use")
    assert command.stdout == b"resumed by use"
    await kept.destroy(ME, made.id)
    with pytest.raises(UnknownSandbox):
        await kept.resume(ME, made.id)
    assert kept.list_sandboxes(ME) == []
    assert host.view().sandboxes == 0


async def test_snapshots_and_forks_go_their_own_ways_and_are_no_twins(host: Host, kept: KeptSandboxes) -> None:
    made = await kept.create(ME, limits=SMALL)
    await said(kept, made.id, "import random, uuid, tempfile; random.seed(1); n = 1")
    saved = await kept.snapshot(ME, made.id, "first")
    assert (await kept.run_code(ME, made.id, "print('x' * 2_000_000)")).ending is Ending.OutputCapped
    assert [view.label for view in kept.list_snapshots(ME)] == ["first"]
    await said(kept, made.id, "n = 2")
    copies = await kept.fork(ME, made.id, 2)
    drawn = {await said(kept, copy.id, "n, random.random(), str(uuid.uuid1())[:8]") for copy in copies}
    assert len(drawn) == 2
    assert all(str(text).startswith("(2, ") for text in drawn)
    assert await said(kept, made.id, "n") == "2"
    again = await kept.create(ME, snapshot=saved.id)
    assert (await said(kept, again.id, "n"), again.memory_bytes, again.cpus) == ("1", 256 << 20, 0.5)
    with pytest.raises(HostFull):  # four of 256 MiB are all that this host has
        await kept.fork(ME, made.id, 1)
    assert len(kept.list_sandboxes(ME)) == 4
    await kept.destroy(ME, again.id)
    await kept.pause(ME, made.id)
    assert await said(kept, (await kept.fork(ME, made.id))[0].id, "n") == "2"
    await kept.destroy(ME, saved.id)
    assert kept.list_snapshots(ME) == []


async def test_another_tenants_sandbox_is_answered_like_an_unknown_one(kept: KeptSandboxes) -> None:
    made = await kept.create(ME, limits=SMALL)
    saved = await kept.snapshot(ME, made.id)
    answers = set()
    calls: list[Callable[[str], Awaitable[object]]] = [
        lambda unknown: kept.run_code(OTHER, unknown, "1"),
        lambda unknown: kept.run_command(OTHER, unknown, ["/bin/true"]),
        lambda unknown: kept.pause(OTHER, unknown),
        lambda unknown: kept.resume(OTHER, unknown),
        lambda unknown: kept.snapshot(OTHER, unknown),
        lambda unknown: kept.fork(OTHER, unknown),
        lambda unknown: kept.set_timeout(OTHER, unknown, 10),
        lambda unknown: kept.destroy(OTHER, unknown),
        lambda unknown: kept.create(OTHER, snapshot=unknown),
    ]
    for unknown in (made.id, saved.id, "sb-" + "0" * 20, "../../x"):
        for call in calls:
            with pytest.raises(UnknownSandbox) as caught:
                await call(unknown)
            answers.add((caught.value.message, caught.value.hint))
    assert len(answers) == 1
    assert (kept.list_sandboxes(OTHER), kept.list_snapshots(OTHER)) == ([], [])
    assert await said(kept, made.id, "1") == "1"


async def test_paused_sandboxes_and_snapshots_survive_the_host_running_ones_are_reported(
    new_host: Callable[[], Host],
) -> None:
    first = new_host()
    await first.open()
    paused = await first.kept.create(ME, limits=SMALL, lifetime_s=None)
    await said(first.kept, paused.id, "n = 7")
    saved = await first.kept.snapshot(ME, paused.id, "label")
    await first.kept.pause(ME, paused.id)
    await first.kept.set_timeout(ME, paused.id, 1000, 500)
    running = await first.kept.create(OTHER, limits=SMALL)
    first._sandboxes.runsc._require_channel().close()  # as if the process had been killed
    first._is_open = False
    await first.close()
    second = new_host()
    await second.open()
    try:
        (view,) = second.kept.list_sandboxes(ME)
        assert (view.id, view.state, view.idle_s) == (paused.id, State.Paused, 500)
        assert view.expires_at_s is not None
        assert second.kept.list_sandboxes(OTHER) == []
        with pytest.raises(UnknownSandbox):
            await second.kept.run_code(OTHER, running.id, "1")
        assert await said(second.kept, paused.id, "n") == "7"
        again = await second.kept.create(ME, snapshot=saved.id)
        assert await said(second.kept, again.id, "n") == "7"
    finally:
        await second.close()


@pytest.mark.parametrize("damage", ["tenant", "id", "limits", "extra", "json"])
async def test_a_damaged_record_is_removed_never_guessed(new_host: Callable[[], Host], damage: str) -> None:
    first = new_host()
    await first.open()
    made = await first.kept.create(ME, limits=SMALL)
    await first.kept.pause(ME, made.id)
    await first.close()
    file = first._sandboxes.snapshots._folder / f"paused-{made.id}" / "snapshot.json"
    text = await asyncio.to_thread(file.read_text)
    changed = {
        "tenant": text.replace(f'"{ME}"', '""'),
        "id": text.replace(made.id, "sb-" + "0" * 20),
        "limits": text.replace('"processes":128', '"processes":129', 1),
        "extra": text.replace('"use":', '"more":1,"use":'),
        "json": text[:-20],
    }[damage]
    assert changed != text
    await asyncio.to_thread(file.write_text, changed)
    second = new_host()
    await second.open()
    assert second.kept.list_sandboxes(ME) == []
    assert not await asyncio.to_thread(file.exists)
    await second.close()


async def test_lifetimes_end_and_idle_sandboxes_are_paused(host: Host, kept: KeptSandboxes) -> None:
    mortal = await kept.create(ME, limits=SMALL, lifetime_s=0.3)
    lazy = await kept.create(ME, limits=SMALL, lifetime_s=None, idle_s=0.3)
    busy = await kept.create(ME, limits=SMALL, idle_s=0.3)
    until_told = "import os, time\nwhile not os.path.exists('/tmp/go'): time.sleep(0.05)\n'done'"
    working = asyncio.create_task(kept.run_code(ME, busy.id, until_told))
    async with asyncio.timeout(20):
        while {view.id: view.state for view in kept.list_sandboxes(ME)} != {
            lazy.id: State.Paused,
            busy.id: State.Running,
        }:
            await asyncio.sleep(0.05)
    assert (await kept.run_command(ME, busy.id, ["/bin/touch", "/tmp/go"])).code == 0
    assert (await working).text == "'done'"
    with pytest.raises(UnknownSandbox):
        await kept.run_code(ME, mortal.id, "1")
    for wrong in (0.0, -1.0, 1e10, float("nan")):
        with pytest.raises(SpecInvalid):
            await kept.create(ME, lifetime_s=wrong)


async def test_a_busy_sandbox_is_not_saved_and_destroying_it_waits_for_nobody(kept: KeptSandboxes) -> None:
    made = await kept.create(ME, limits=SMALL)
    working = asyncio.create_task(kept.run_code(ME, made.id, "import time; time.sleep(25)"))
    await asyncio.sleep(0.2)
    for call in (kept.pause, kept.snapshot, kept.fork):
        with pytest.raises(SessionBusy):
            await call(ME, made.id)
    async with asyncio.timeout(10):
        await kept.destroy(ME, made.id)
        assert (await working).ending is Ending.Failed
    assert kept.list_sandboxes(ME) == []


async def test_what_is_saved_for_the_next_host_is_not_resumed_by_this_one(new_host: Callable[[], Host]) -> None:
    first, second = new_host(), new_host()
    await first.open()
    saved, busy = await first.kept.create(ME, limits=SMALL), await first.kept.create(OTHER, limits=SMALL)
    await said(first.kept, saved.id, "n = 7")
    working = asyncio.create_task(first.kept.run_code(OTHER, busy.id, "import time; time.sleep(25)"))
    await asyncio.sleep(0.2)
    assert len(await first.save_kept()) == 1, "in one of them something runs"
    with pytest.raises(HostClosed):
        await first.kept.run_code(ME, saved.id, "n")
    await first.close()
    await asyncio.gather(working, return_exceptions=True)
    await second.open()
    try:
        assert await said(second.kept, saved.id, "n") == "7"
        assert second.kept.list_sandboxes(OTHER) == []
    finally:
        await second.close()


async def test_no_room_on_disk_is_a_typed_error_and_the_sandbox_goes_on(
    host: Host, kept: KeptSandboxes, short_folder: Path
) -> None:
    made = await kept.create(ME, limits=SMALL)
    await said(kept, made.id, "n = 1")
    place = short_folder / "host" / "snapshots"
    await asyncio.to_thread(place.mkdir, exist_ok=True)
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        for call in (kept.pause, kept.snapshot, kept.fork):
            with pytest.raises(SnapshotSpaceExhausted):
                await call(ME, made.id)
            assert await said(kept, made.id, "n") == "1"
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", place], check=True)
    for _ in range(4):
        await kept.snapshot(ME, made.id)
    with pytest.raises(SnapshotSpaceExhausted, match="keeps 4"):
        await kept.pause(ME, made.id)
    assert [view.state for view in kept.list_sandboxes(ME)] == [State.Running]


async def test_a_sandbox_that_ends_by_itself_is_taken_off(host: Host, kept: KeptSandboxes) -> None:
    made = await kept.create(ME, limits=SMALL)
    execution = await kept.run_code(ME, made.id, "import os; os.kill(os.getpid(), 9)")
    assert execution.ending is Ending.Failed
    with pytest.raises(UnknownSandbox):
        await kept.run_code(ME, made.id, "1")
    other = await kept.create(ME, limits=SMALL)
    await asyncio.to_thread(host._sandboxes.cgroups.kill, other.id)
    async with asyncio.timeout(20):
        while kept.list_sandboxes(ME) or host.view().sandboxes:
            await asyncio.sleep(0.05)


async def test_a_host_can_be_closed_while_its_upkeep_destroys_something(host: Host, kept: KeptSandboxes) -> None:
    for _ in range(3):
        await kept.create(ME, limits=SMALL, lifetime_s=0.1)
    async with asyncio.timeout(20):
        while len(kept.list_sandboxes(ME)) == 3:
            await asyncio.sleep(0.001)
        await host.close()
    assert host.view().sandboxes == 0
