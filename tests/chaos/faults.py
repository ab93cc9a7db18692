"""How each fault of a plan is carried out. Each blocks until it is over and what it broke may heal."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from cluster.local.leash import descendants
from tests.chaos.house import ChaosHouse
from tests.support.faults import FaultProxy

FAULT_S = 2.0
HANG_S = 4.0
NODE_S = 10.0
"""A node that joined has hosts and pools by then, and work."""
FULL = (
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: 52\r\n\r\n<Error><Code>XMinioStorageFull</Code></Error>       "
)
HOUR_S = 3600
BACK_S = 60.0
"""Within this time after a fault whatever it ended is there again."""


def break_it(house: ChaosHouse, name: str, random: Random) -> None:
    """Let this fault happen and heal. `random`: of this fault alone, for others may happen at the same time."""
    FAULTS[name](house, random)


def kill_actors(house: ChaosHouse, title: str) -> None:
    for pid in _some(lambda: _actors(house, title), title):
        _signal(pid, signal.SIGKILL)


def hang_actors(house: ChaosHouse, random: Random, title: str) -> None:
    """They stand still, and go on or are killed while they do."""
    pids = _some(lambda: _actors(house, title), title)
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    time.sleep(random.uniform(HANG_S / 4, HANG_S))
    number = random.choice((signal.SIGCONT, signal.SIGKILL))
    for pid in pids:
        _signal(pid, number)


def kill_sandboxes(house: ChaosHouse) -> None:
    """Those in use and the warm ones: their sentries."""
    for pid in _some(lambda: _sandboxes(house), "sandboxes"):
        _signal(pid, signal.SIGKILL)


def let_a_node_join_and_die(house: ChaosHouse) -> None:
    house.join_node()
    time.sleep(NODE_S)
    house.end_node()


def restart_server(random: Random, server: Any, *, kill: bool) -> None:
    (server.kill if kill else server.stop)()
    time.sleep(random.uniform(0.0, FAULT_S))
    server.start()


def disturb(house: ChaosHouse, random: Random, proxy: FaultProxy, fault: Callable[[], None]) -> None:
    house.call(fault)
    time.sleep(random.uniform(FAULT_S / 4, FAULT_S))
    house.call(proxy.heal)


def shift_clock(house: ChaosHouse, random: Random, hours: int) -> None:
    house.clock.shift(hours * HOUR_S)
    time.sleep(random.uniform(FAULT_S, 3 * FAULT_S))
    house.clock.shift(0)


def fill_volume(house: ChaosHouse) -> None:
    filler = house.volume / ".filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * (1 << 20))
        except OSError:
            pass
    time.sleep(FAULT_S)
    filler.unlink()


FAULTS: dict[str, Callable[[ChaosHouse, Random], None]] = {
    "kill the scheduler": lambda house, _: kill_actors(house, "Conductor"),
    "kill the pools": lambda house, _: kill_actors(house, "Pool"),
    "kill the hosts": lambda house, _: kill_actors(house, "Host"),
    "hang the scheduler": lambda house, dice: hang_actors(house, dice, "Conductor"),
    "hang the pools": lambda house, dice: hang_actors(house, dice, "Pool"),
    "hang the hosts": lambda house, dice: hang_actors(house, dice, "Host"),
    "kill the sandboxes": lambda house, _: kill_sandboxes(house),
    "let a node join and die": lambda house, _: let_a_node_join_and_die(house),
    "restart the cluster": lambda house, _: house.restart(kill=False),
    "kill everything of the cluster": lambda house, _: house.restart(kill=True),
    "restart the database": lambda house, dice: restart_server(dice, house.stage.postgres, kill=False),
    "kill the database": lambda house, dice: restart_server(dice, house.stage.postgres, kill=True),
    "restart the broker": lambda house, dice: restart_server(dice, house.stage.rabbitmq, kill=False),
    "kill the broker": lambda house, dice: restart_server(dice, house.stage.rabbitmq, kill=True),
    "cut the database off": lambda house, dice: disturb(house, dice, house.database, house.database.cut),
    "reset connections to the database": lambda house, dice: disturb(house, dice, house.database, house.database.reset),
    "stall the database": lambda house, dice: disturb(house, dice, house.database, house.database.stall),
    "slow the database": lambda house, dice: disturb(house, dice, house.database, lambda: house.database.delay(0.05)),
    "drop connections to the broker": lambda house, dice: disturb(house, dice, house.broker, house.broker.drop),
    "reset connections to the broker in mid-message": lambda house, dice: disturb(
        house, dice, house.broker, lambda: house.broker.reset_after(5_000)
    ),
    "stall the broker": lambda house, dice: disturb(house, dice, house.broker, house.broker.stall),
    "slow the broker": lambda house, dice: disturb(house, dice, house.broker, lambda: house.broker.delay(0.05)),
    "fill the volume": lambda house, _: fill_volume(house),
    "cut the object store off": lambda house, dice: disturb(house, dice, house.bucket, house.bucket.cut),
    "stall the object store": lambda house, dice: disturb(house, dice, house.bucket, house.bucket.stall),
    "slow the object store": lambda house, dice: disturb(house, dice, house.bucket, lambda: house.bucket.delay(0.5)),
    "reset connections to the object store in mid-message": lambda house, dice: disturb(
        house, dice, house.bucket, lambda: house.bucket.reset_after(3_000)
    ),
    "fill the object store": lambda house, dice: disturb(
        house, dice, house.bucket, lambda: house.bucket.answer((b"PUT ", b"POST "), FULL)
    ),
    "let the clock jump ahead": lambda house, dice: shift_clock(house, dice, 72),
    "let the clock jump back": lambda house, dice: shift_clock(house, dice, -5),
}


def _some(look: Callable[[], list[int]], what: str) -> list[int]:
    """What there is of it now, or as soon as there is any: another fault may have ended it just before."""
    deadline = time.monotonic() + BACK_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what} after {BACK_S:g} s, so this fault cannot happen"
        time.sleep(0.1)
    return found


def _sandboxes(house: ChaosHouse) -> list[int]:
    wanted, found = str(house.sandboxes).encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if words.startswith(b"runsc-sandbox") and wanted in words:
                    found.append(int(entry.name))
    return found


def _actors(house: ChaosHouse, title: str) -> list[int]:
    return [pid for pid in descendants(house.pid) if title in title_of(pid)]


def title_of(pid: int) -> str:
    """What a process of Ray calls itself; empty for any other."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return words if words.startswith("ray::") else ""


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
