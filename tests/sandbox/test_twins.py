"""Copies of one snapshot are not twins: what an import seeded differs, and the clock is the host's."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.sandbox.live import SESSION_LIMITS, Mounts, listener_of, start_live
from workers.sandbox.image import Image
from workers.sandbox.limits import GIB, Limits
from workers.sandbox.sandboxes import Sandboxes

BASE = """
import json, os, random, secrets, ssl, tempfile, time, uuid
random.seed(1)
def draw():
    return {
        "random": random.random(), "random.sample": random.sample(range(10**6), 3),
        "tempfile": os.path.basename(tempfile.mktemp()), "uuid1": str(uuid.uuid1())[9:], "uuid4": str(uuid.uuid4()),
        "secrets": secrets.token_hex(8), "urandom": os.urandom(8).hex(), "ssl": ssl.RAND_bytes(8).hex(),
    }
"""
DATA = """
import numpy, pandas, polars, duckdb
numpy.random.seed(1)
polars.set_random_seed(1)
frame = polars.DataFrame({"a": list(range(1000))})
def draw_data():
    return {
        "numpy": numpy.random.random(3).tolist(), "pandas": pandas.Series(range(1000)).sample(3).tolist(),
        "polars": frame.sample(5)["a"].to_list(), "numpy default_rng": float(numpy.random.default_rng().random()),
        "duckdb": duckdb.connect().execute("select random()").fetchone()[0],
    }
"""


async def drawn_by_copies(
    sandboxes: Sandboxes, image: Image, limits: Limits, mounts: Mounts, *, prepare: str, draw: str
) -> list[dict[str, Any]]:
    """What two restores of one snapshot draw, and a third draw of the sandbox itself as it goes on."""
    own = mounts("seed")
    sandbox, session = await start_live(sandboxes, image, limits, own)
    prepared = await session.run_code(f"{prepare}\n{draw};", timeout_s=60)
    assert prepared.error is None, prepared.error
    await session.release()
    snapshot = await sandboxes.snapshot(sandbox.id, "seed", leave_running=True)
    sessions = [await listener_of(own).accept(10, SESSION_LIMITS)]
    for name in ("one", "two"):
        copy = mounts(name)
        listener = listener_of(copy)
        await listener.open()
        await sandboxes.restore(snapshot, image, mounts=copy)
        sessions.append(await listener.accept(10, SESSION_LIMITS))
    found = []
    for session in sessions:
        execution = await session.run_code(f"print(json.dumps({draw}))")
        assert execution.error is None, execution.error
        found.append(json.loads(execution.stdout))
        await session.close()
    return found


def require_different(drawn: list[dict[str, Any]]) -> None:
    for name in drawn[0]:
        values = [json.dumps(one[name]) for one in drawn]
        assert len(set(values)) == len(drawn), f"{name} repeats: {values}"


async def test_restored_copies_draw_other_numbers_names_and_keys(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> None:
    require_different(await drawn_by_copies(sandboxes, base_image, limits, mounts, prepare=BASE, draw="draw()"))


async def test_restored_copies_of_the_data_image_draw_other_numbers_from_its_libraries(
    sandboxes: Sandboxes, data_image: Image, limits: Limits, mounts: Mounts
) -> None:
    ample = replace(limits, memory_bytes=1 * GIB, processes=128)
    require_different(
        await drawn_by_copies(sandboxes, data_image, ample, mounts, prepare=BASE + DATA, draw="draw_data()")
    )


async def test_a_restored_copy_has_the_time_of_its_host(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> None:
    sandbox, session = await start_live(sandboxes, base_image, limits, mounts("a"))
    await session.run_code(
        "import os, time\nos.environ['TZ'] = '../../../etc/passwd'\ntime.tzset()\nbefore = time.time()"
    )
    await session.release()
    snapshot = await sandboxes.snapshot(sandbox.id, "old", leave_running=False)
    await asyncio.sleep(1.5)
    own = mounts("b")
    listener = listener_of(own)
    await listener.open()
    await sandboxes.restore(snapshot, base_image, mounts=own)
    copy = await listener.accept(10, SESSION_LIMITS)
    execution = await copy.run_code("time.time(), before, time.localtime()[:5] == time.gmtime()[:5]")
    assert execution.text is not None
    now, before, in_utc = execution.text.strip("()").split(", ")
    assert float(now) == pytest.approx(time.time(), abs=1.0)
    assert float(now) - float(before) > 1.4
    assert in_utc == "True"
    await copy.close()
