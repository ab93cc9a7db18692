"""Claim 7: how many: sandboxes per GiB of memory and of disk, fresh ones per second, twenty at once.

Memory is the proportional share (PSS) of all host processes of a sandbox: what is shared between sandboxes counts once.
Every fresh sandbox runs `1 + 1` with the imports of its image there, then goes, and nothing of it is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from benchmarks.options import Options
from benchmarks.peers import bubblewrap
from benchmarks.report import Cell, Report
from benchmarks.sandbox_rig import CODE, LIMITS, MOST_WARM, TENANT, Rig, describe_peers, open_rig
from benchmarks.timings import median, percentile

NAME = "sandbox_density"
TITLE = "how many sandboxes a machine holds and makes"
IMAGE = "data"
LIVE, QUICK_LIVE = 8, 2
AT_ONCE, QUICK_AT_ONCE = 20, 4
SUSTAINED_S, QUICK_SUSTAINED_S = 15.0, 2.0
WORKERS = 2
MIB_PER_GIB = 1024

Once = Callable[[], Awaitable[None]]


def run(options: Options) -> Report:
    rows = uvloop.run(_measure(options))
    notes = (
        describe_peers(),
        f"Image `{IMAGE}`: numpy, pandas, pyarrow, duckdb and matplotlib are imported in every sandbox.",
        f"Sustained: {WORKERS} callers, each takes a fresh sandbox, runs `{CODE}`, lets it go, for {SUSTAINED_S:g} s.",
        f"At once: {AT_ONCE} callers, from the wish to the answer; Sandpool has at most {MOST_WARM} spare ones then.",
        "bubblewrap has no kernel of its own, no memory limit and nothing to pause.",
        "A fresh `data` process also makes the font cache of matplotlib, about half of its time.",
    )
    return Report(NAME, TITLE, ("", "Sandpool", "cold runsc run", "bubblewrap + Python"), tuple(rows), (), notes)


async def _measure(options: Options) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    async with open_rig(options) as rig:
        options.say("memory of live sandboxes")
        pss_mib, cgroup_mib = await _live(rig, QUICK_LIVE if options.quick else LIVE)
        rows.append((f"live `{IMAGE}`, MiB each (PSS)", pss_mib, None, await _wrapped_mib(rig)))
        rows.append((f"live `{IMAGE}`, per GiB of memory", MIB_PER_GIB / pss_mib, None, None))
        rows.append((f"live `{IMAGE}`, MiB each by its cgroup", cgroup_mib, None, None))
        disk_mib = _disk_bytes(rig.snapshots[IMAGE].folder) / 2**20
        rows.append((f"paused `{IMAGE}`, MiB of disk each", disk_mib, None, None))
        rows.append((f"paused `{IMAGE}`, per GiB of disk", MIB_PER_GIB / disk_mib, None, None))
        peers: list[Once] = [lambda: _ours(rig), lambda: _cold(rig), lambda: _wrapped(rig)]
        for_s = QUICK_SUSTAINED_S if options.quick else SUSTAINED_S
        options.say("fresh sandboxes per second")
        rates = [await _sustained(once, for_s) for once in peers]
        rows.append(("fresh sandboxes per second, sustained", *rates))
        options.say("many at once")
        count = QUICK_AT_ONCE if options.quick else AT_ONCE
        spread = [await _at_once(once, count) for once in peers]
        rows.append((f"{count} at once, p50 ms", *(1000 * median(times) for times in spread)))
        rows.append((f"{count} at once, p95 ms", *(1000 * percentile(times, 0.95) for times in spread)))
    return rows


async def _live(rig: Rig, count: int) -> tuple[float, float]:
    """MiB per restored sandbox that has run code: proportional, and as its cgroup counts."""
    lives = [await rig.restored(IMAGE) for _ in range(count)]
    for live in lives:
        await live.session.run_code(CODE)
    pss, counted = 0.0, 0.0
    for live in lives:
        pids = await asyncio.to_thread(rig.sandboxes.cgroups.pids, live.id)
        pss += sum(await asyncio.gather(*(asyncio.to_thread(_pss_bytes, pid) for pid in pids)))
        counted += (await rig.sandboxes.usage(live.id)).memory_bytes
    await asyncio.gather(*(rig.starter.end(live) for live in lives))
    return pss / count / 2**20, counted / count / 2**20


async def _wrapped_mib(rig: Rig) -> float:
    """MiB of one such process in bubblewrap."""
    image = rig.images[IMAGE]
    code = f"{rig.program(IMAGE)}\nimport sys; sys.stdout.flush(); sys.stdin.read()"
    argv = bubblewrap.command(image.rootfs, image.home, code, image.env)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    total = await asyncio.to_thread(_tree_pss_bytes, process.pid)
    process.kill()
    await process.communicate()
    return total / 2**20


async def _ours(rig: Rig) -> None:
    async with rig.host.lease(rig.images[IMAGE].ref, LIMITS, tenant=TENANT) as lease:
        execution = await lease.session.run_code(CODE)
    if execution.text != "2":
        raise RuntimeError(f"no answer: {execution}")


async def _cold(rig: Rig) -> None:
    await asyncio.to_thread(rig.bare.run, rig.images[IMAGE], LIMITS, rig.cold_argv(IMAGE))


async def _wrapped(rig: Rig) -> None:
    await asyncio.to_thread(bubblewrap.run, rig.wrapped(IMAGE))


async def _sustained(once: Once, for_s: float) -> float:
    """How many per second, with WORKERS at a time; until the last one is done."""
    done = 0
    started = time.perf_counter()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - started < for_s:
            await once()
            done += 1

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return done / (time.perf_counter() - started)


async def _at_once(once: Once, count: int) -> list[float]:
    async def one() -> float:
        started = time.perf_counter()
        await once()
        return time.perf_counter() - started

    return list(await asyncio.gather(*(one() for _ in range(count))))


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # ended meanwhile
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _tree_pss_bytes(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _pss_bytes(pid) + sum(_tree_pss_bytes(int(child)) for child in children)


def _disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())
