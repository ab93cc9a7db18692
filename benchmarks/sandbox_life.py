"""Claim 6: what a live sandbox costs: a round trip of code, and pause, snapshot, resume and fork beside bare runsc.

Ours is what a host does: the runner lets go of its connection, the sandbox is saved, and comes back with a session and
new seeds. Bare runsc saves and restores the same sandbox with nobody to talk to but its first byte. Interleaved.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict

import uvloop

from benchmarks.options import Options
from benchmarks.peers.bare_runsc import Made
from benchmarks.report import Budget, Cell, Report
from benchmarks.sandbox_rig import CODE, LIMITS, NAMES, Rig, describe_peers, open_rig
from benchmarks.timings import median, percentile
from workers.sandbox.starter import Live

NAME = "sandbox_life"
TITLE = "code, pause, snapshot, resume and fork of a live sandbox"
ROUNDS, QUICK_ROUNDS = 15, 2
TRIPS, QUICK_TRIPS = 1000, 50
COMMANDS = 50
FORKS = 4
MOST_TRIP_MS = 2.0
MOST_OF_BARE = 1.2
STEPS = ("pause", "snapshot", "resume", f"fork of {FORKS}")

Times = dict[str, list[float]]


def run(options: Options) -> Report:
    ours, bare = uvloop.run(_measure(options))
    rows: list[tuple[Cell, ...]] = []
    for row, values in ours.items():
        peer = bare.get(row)
        mine = (1000 * median(values), 1000 * percentile(values, 0.95))
        theirs = (1000 * median(peer), 1000 * percentile(peer, 0.95), median(values) / median(peer)) if peer else ()
        rows.append((row, *mine, *(theirs or (None, None, None))))
    trip_ms = max(1000 * median(ours[f"code, {name}"]) for name in NAMES)
    budgets = [Budget("code in a live sandbox, round trip p50", trip_ms, "at most", MOST_TRIP_MS, "ms")]
    for step in STEPS:
        ratio = max(median(ours[f"{step}, {name}"]) / median(bare[f"{step}, {name}"]) for name in NAMES)
        budgets.append(Budget(f"{step} against bare runsc, the slower image", ratio, "at most", MOST_OF_BARE, "x"))
    rounds, trips = len(ours[f"pause, {NAMES[0]}"]), len(ours[f"code, {NAMES[0]}"])
    notes = (
        describe_peers(),
        f"Medians of {rounds} interleaved rounds; code: {trips} trips.",
        f"code: `{CODE}` from the call to its value; command: `/bin/true` by the runner inside.",
        "pause: saved and gone; resume: restored and connected; snapshot: saved and connected again.",
        f"fork: {FORKS} copies at once, all of them connected.",
    )
    columns = ("", "Sandpool p50 ms", "p95 ms", "bare runsc p50 ms", "p95 ms", "ratio")
    return Report(NAME, TITLE, columns, tuple(rows), tuple(budgets), notes)


async def _measure(options: Options) -> tuple[Times, Times]:
    ours: Times = defaultdict(list)
    bare: Times = defaultdict(list)
    async with open_rig(options) as rig:
        for name in NAMES:
            options.say(f"round trips in {name}")
            await _trips(rig, name, QUICK_TRIPS if options.quick else TRIPS, ours)
        for number in range((QUICK_ROUNDS if options.quick else ROUNDS) + 1):
            options.say(f"round {number}")
            for name in NAMES:
                found, theirs = await _ours(rig, name), await _bare(rig, name)
                if number:  # the first one warms the page cache for everybody
                    for step in STEPS:
                        ours[f"{step}, {name}"].append(found[step])
                        bare[f"{step}, {name}"].append(theirs[step])
    return ours, bare


async def _trips(rig: Rig, name: str, count: int, ours: Times) -> None:
    live = await rig.restored(name)
    for _ in range(count):
        started = time.perf_counter()
        execution = await live.session.run_code(CODE)
        ours[f"code, {name}"].append(time.perf_counter() - started)
        if execution.text != "2":
            raise RuntimeError(f"no answer: {execution}")
    for _ in range(min(count, COMMANDS)):
        started = time.perf_counter()
        await live.session.run_command(["/bin/true"])
        ours[f"command, {name}"].append(time.perf_counter() - started)
    await rig.starter.end(live)


async def _ours(rig: Rig, name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    live = await rig.restored(name)
    # New names, as everything that is saved has one: what takes the place of another also removes that one's pages.
    running_name, paused_name = (f"life-{secrets.token_hex(4)}" for _ in range(2))
    started = time.perf_counter()
    await live.session.release()
    await rig.sandboxes.snapshot(live.id, running_name, leave_running=True)
    await rig.starter.reconnect(live)
    found["snapshot"] = time.perf_counter() - started
    started = time.perf_counter()
    await live.session.release()
    paused = await rig.sandboxes.snapshot(live.id, paused_name, leave_running=False)
    found["pause"] = time.perf_counter() - started
    image = rig.images[name]
    started = time.perf_counter()
    resumed = await rig.starter.restored(paused, image, LIMITS)
    found["resume"] = time.perf_counter() - started
    await rig.starter.end(resumed)
    started = time.perf_counter()
    copies: list[Live] = await asyncio.gather(*(rig.starter.restored(paused, image, LIMITS) for _ in range(FORKS)))
    found[STEPS[3]] = time.perf_counter() - started
    await asyncio.gather(*(rig.starter.end(copy) for copy in copies))
    for saved in (running_name, paused_name):
        await asyncio.to_thread(rig.sandboxes.snapshots.delete, saved)
    return found


async def _bare(rig: Rig, name: str) -> dict[str, float]:
    """The same steps by bare runsc, on copies of the same snapshot."""
    found: dict[str, float] = {}
    image, snapshot = rig.images[name], rig.snapshots[name].folder
    made = await asyncio.to_thread(rig.bare.restore, snapshot, image, LIMITS)
    found["resume"] = made.took_s
    found["snapshot"] = await asyncio.to_thread(rig.bare.checkpoint, made, leave_running=True)
    found["pause"] = await asyncio.to_thread(rig.bare.checkpoint, made, leave_running=False)
    await asyncio.to_thread(rig.bare.end, made, deleted=True)
    started = time.perf_counter()
    restores = (asyncio.to_thread(rig.bare.restore, snapshot, image, LIMITS) for _ in range(FORKS))
    copies: list[Made] = await asyncio.gather(*restores)
    found[STEPS[3]] = time.perf_counter() - started
    for copy in copies:
        await asyncio.to_thread(rig.bare.end, copy)
    return found
