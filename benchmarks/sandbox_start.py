"""Claim 5: from the wish for a sandbox to the first answer of code in it, beside bare runsc, cold runsc, bubblewrap.

Rounds are interleaved: every peer has its turn in each. `hand-out` ends when the session is there; the others end with
the answer to `1 + 1` (bare restore: with the first byte of what was restored). For `data` the answer needs its imports:
they are in the snapshot of ours and of bare runsc, cold peers have to do them.
"""

from __future__ import annotations

import asyncio
import time

import uvloop

from benchmarks.options import Options
from benchmarks.peers import bubblewrap
from benchmarks.report import Budget, Cell, Report
from benchmarks.sandbox_rig import CODE, LIMITS, NAMES, TENANT, Rig, describe_peers, open_rig
from benchmarks.timings import median, percentile

NAME = "sandbox_start"
TITLE = "a fresh sandbox, to its first answer"
ROUNDS, QUICK_ROUNDS = 15, 3
COLD_EVERY = 3
"""Rounds: cold peers take seconds and vary little."""
MOST_HAND_OUT_MS = 10.0
MOST_OF_BARE_RESTORE = 1.15
HAND_OUT, WARM, RESTORE, EMPTY = (
    "Sandpool, hand-out from the warm pool",
    "Sandpool, warm pool, to the answer",
    "Sandpool, restore, to its session",
    "Sandpool, pool empty, to the answer",
)
BARE, COLD, WRAPPED = (
    "bare runsc restore, to the first byte",
    "cold runsc run",
    "bubblewrap + Python (no isolation of kernels)",
)
ROWS = (HAND_OUT, WARM, RESTORE, EMPTY, BARE, COLD, WRAPPED)

Times = dict[tuple[str, str], list[float]]


def run(options: Options) -> Report:
    times = uvloop.run(_measure(options))
    rows: list[tuple[Cell, ...]] = []
    for row in ROWS:
        cells: list[Cell] = [row]
        for image in NAMES:
            values = times[row, image]
            cells += [1000 * median(values), 1000 * percentile(values, 0.95)]
        rows.append(tuple(cells))
    columns = ("", *(f"{image}, {figure} ms" for image in NAMES for figure in ("p50", "p95")))
    hand_out_ms = max(1000 * median(times[HAND_OUT, image]) for image in NAMES)
    budgets = [Budget("hand-out from the warm pool, p50", hand_out_ms, "at most", MOST_HAND_OUT_MS, "ms")]
    for image in NAMES:
        ratio = median(times[RESTORE, image]) / median(times[BARE, image])
        budgets.append(
            Budget(f"restore of {image} against bare runsc restore", ratio, "at most", MOST_OF_BARE_RESTORE, "x")
        )
    rounds = len(times[HAND_OUT, NAMES[0]])
    notes = (
        describe_peers(),
        f"{rounds} interleaved rounds, one sandbox at a time (cold peers in every third); medians.",
        "Ours and bare runsc restore the same snapshot with the same limits, mounts and cgroups.",
        "Ours also greets the runner, which has drawn new seeds by then.",
        "Cold peers run one process that imports what the image names and prints 1 + 1.",
        "A fresh `data` process also makes the font cache of matplotlib, about half of its time.",
    )
    return Report(NAME, TITLE, columns, tuple(rows), tuple(budgets), notes)


async def _measure(options: Options) -> Times:
    times: Times = {(row, image): [] for row in ROWS for image in NAMES}
    async with open_rig(options) as rig:
        for number in range((QUICK_ROUNDS if options.quick else ROUNDS) + 1):
            options.say(f"round {number}")
            for image in NAMES:
                found = await _round(rig, image, cold=number % COLD_EVERY == 0)
                if number:  # the first one warms the page cache for everybody
                    for row, took_s in found.items():
                        times[row, image].append(took_s)
    return times


async def _round(rig: Rig, name: str, *, cold: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    await rig.warm(name)
    started = time.perf_counter()
    async with rig.host.lease(rig.images[name].ref, LIMITS, tenant=TENANT) as lease:
        found[HAND_OUT] = time.perf_counter() - started
        execution = await lease.session.run_code(CODE)
        found[WARM] = time.perf_counter() - started
    if execution.text != "2":
        raise RuntimeError(f"no answer: {execution}")
    await rig.warm(name)  # the next one is made now: not while a peer has its turn
    started = time.perf_counter()
    live = await rig.restored(name)
    found[RESTORE] = time.perf_counter() - started
    await live.session.run_code(CODE)
    found[EMPTY] = time.perf_counter() - started
    await rig.starter.end(live)
    image = rig.images[name]
    made = await asyncio.to_thread(rig.bare.restore, rig.snapshots[name].folder, image, LIMITS)
    found[BARE] = made.took_s
    await asyncio.to_thread(rig.bare.end, made)
    if not cold:
        return found
    found[COLD] = await asyncio.to_thread(rig.bare.run, image, LIMITS, rig.cold_argv(name))
    found[WRAPPED] = await asyncio.to_thread(bubblewrap.run, rig.wrapped(name))
    return found
