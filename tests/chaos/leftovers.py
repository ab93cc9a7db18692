"""What may be left once a chaos run is over and its cluster drained: nothing. Each look raises AssertionError."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import aio_pika

from queues.topology import DEAD, JOB_QUEUES
from tests.chaos.house import CGROUPS, ChaosHouse
from workers.volumes.store import Volume

OBJECTS = (".parquet", ".json", ".jsonl")
BUDGET = 8
"""Of each database of the house: the default."""
QUIET_S = 20.0
"""Within this time after the last session every connection is idle again."""


async def nothing_waits(house: ChaosHouse) -> None:
    """No message is left in any queue of jobs; nothing became a dead letter."""
    connection = await aio_pika.connect(house.stage.urls["sandpool"])
    async with connection:
        for name in (*JOB_QUEUES, DEAD):
            channel = await connection.channel()
            queue = await channel.get_queue(name, ensure=False)
            message = await queue.get(fail=False)
            assert message is None, f"{name} has {message and message.message_id}: {message and message.headers}"


def connections_are_idle(house: ChaosHouse) -> None:
    """While the cluster still runs: no connection is in a transaction or at work, and there are no more than may be."""
    deadline = time.monotonic() + QUIET_S
    while True:
        states = _sessions(house)
        if not any(state != "idle" for _, state in states):
            break
        assert time.monotonic() < deadline, f"connections that nobody uses are not idle: {states}"
        time.sleep(0.2)
    for role in ("reader", "writer"):
        assert sum(user == role for user, _ in states) <= BUDGET, f"{role} has more than its budget: {states}"


def nothing_is_left(house: ChaosHouse, volumes: dict[str, Volume]) -> None:
    """After the drain: what the cluster made here and at its servers is gone, but for results and records."""
    left = {
        "connections to the database": _sessions(house),
        "processes": _processes_of(house),
        "sandboxes": [*house.sandboxes.glob("run/*"), *house.sandboxes.glob("*/run/*")],
        "cgroups": list(CGROUPS.glob(f"**/sandpool/{house.host_name}*/sb-*")),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(house.sandboxes) in line],
        "sockets": [path for path in house.sandboxes.rglob("*") if path.is_socket()],
        "temporary files": list(house.temporary.iterdir()),
        "drafts": [path for path in house.volume.rglob("*") if path.is_file() and path.parent.name.startswith(".")],
    }
    for name, volume in volumes.items():
        left[f"objects in {name}"] = [meta.key for meta in volume.list() if not meta.key.endswith(OBJECTS)]
    found = {what: things for what, things in left.items() if things}
    assert not found, f"left behind: {found}"


def _sessions(house: ChaosHouse) -> list[tuple[str, str]]:
    """(role, state) of every connection of the cluster's."""
    text = house.stage.postgres.execute(
        "SELECT usename, state FROM pg_stat_activity WHERE application_name LIKE 'sandpool:%'"
    )
    return [(user, state) for user, _, state in (line.partition("|") for line in text.splitlines() if line)]


def _processes_of(house: ChaosHouse) -> list[str]:
    """Whatever inherited the cluster's clock, or runs on a folder of its hosts."""
    clock, sandboxes = (os.fsencode(path) for path in (house.folder / "clock", house.sandboxes))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended
                words = (entry / "cmdline").read_bytes()
                if sandboxes in words or clock in (entry / "environ").read_bytes():
                    found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found
