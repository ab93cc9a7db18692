"""Claim: how long jobs stand still after each kind of kill. Everything is killed by SIGKILL while jobs are in flight.

Two figures for each kind: until a job that is submitted right after the kill has its outcome (interactive, so that it
does not wait behind the others), and until all jobs that were in flight have theirs. Each ends once, and succeeds.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.timings import median
from cluster.demo import acts
from cluster.demo.house import House, open_house
from cluster.local.leash import descendants
from sandpool import Client, CommandJob, Job, SqlJob

NAME = "recovery"
TITLE = "recovery after each kind of kill, three Ray nodes on one machine"
NODES = 3
ROUNDS = 3
IN_FLIGHT = 64
SANDBOXES = 4
TIMEOUT_S = 180.0
COLUMNS = ("killed", "kills", "next job s", "worst s", "all in flight s", "worst s")


def run(options: Options) -> Report:
    """Every kind ROUNDS times on one cluster, the node last: it does not come back."""
    with tempfile.TemporaryDirectory(prefix="spr-") as folder, open_house(Path(folder), options.say, NODES) as house:
        rounds = 1 if options.quick else ROUNDS
        kinds: dict[str, tuple[int, Callable[[], None], Callable[[int], Job]]] = {
            "nothing": (rounds, lambda: None, _statement),
            "the scheduler": (rounds, lambda: _kill(house, "ConductorActor"), _statement),
            "every pool": (rounds, lambda: _kill(house, "PoolActor"), _statement),
            "RabbitMQ": (rounds, lambda: _restart(house.stage.rabbitmq), _statement),
            "PostgreSQL": (rounds, lambda: _restart(house.stage.postgres), _statement),
            "every host": (rounds, lambda: _kill(house, "HostActor"), _command),
            "a node": (1, lambda: os.kill(house.raylets[-1], signal.SIGKILL), _statement),
        }
        if house.why_no_sandboxes:
            del kinds["every host"]
        rows = []
        for kind, (count, kill, make) in kinds.items():
            seen = []
            for number in range(count):
                options.say(f"{NAME}: {kind}, {number + 1} of {count}")
                with house.client("acme") as client:
                    seen.append(_recover(client, kill, make))
            firsts, alls = zip(*seen, strict=True)
            rows.append((kind, count, median(list(firsts)), max(firsts), median(list(alls)), max(alls)))
    notes = (
        f"{IN_FLIGHT} jobs in flight ({SANDBOXES} commands in sandboxes for the hosts); medians over the kills.",
        "Of servers the time of their own restart is part of it. A lost node is noticed after 1.5 s here; by Ray's",
        "default after 15 s. Waits between attempts (1, 2, 4 s with jitter) are part of it, too.",
    )
    return Report(NAME, TITLE, COLUMNS, tuple(rows), (), notes)


def _recover(client: Client, kill: Callable[[], None], make: Callable[[int], Job]) -> tuple[float, float]:
    """Seconds until the next job, and until all of those in flight, have their outcome."""
    count = IN_FLIGHT if make is _statement else SANDBOXES
    in_flight = [client.submit(make(number)) for number in range(count)]
    begun = time.perf_counter()
    kill()
    next_one = client.submit(make(0), timeout=TIMEOUT_S)
    acts.succeeded(next_one.outcome(timeout=TIMEOUT_S))
    first_s = time.perf_counter() - begun
    for handle in in_flight:
        acts.succeeded(handle.outcome(timeout=TIMEOUT_S))
    return first_s, time.perf_counter() - begun


def _statement(number: int) -> Job:
    routes = acts.ROUTES
    priority = "batch" if number else "interactive"
    return SqlJob(
        database="flights", sql=acts.SMALL, params=routes[number % len(routes)], max_attempts=9, priority=priority
    )


def _command(number: int) -> Job:
    return CommandJob(argv=("true",), max_attempts=9, priority="batch" if number else "interactive")


def _kill(house: House, kind: str) -> None:
    """Every process of this kind of actor."""
    assert house.pid is not None
    pids = [pid for root in (house.pid, *house.raylets) for pid in descendants(root) if _title(pid).startswith(kind)]
    assert pids, f"there is no {kind}"
    for pid in set(pids):
        os.kill(pid, signal.SIGKILL)


def _title(pid: int) -> str:
    """What Ray calls a process of ours, without `ray::`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return words.removeprefix("ray::") if words.startswith("ray::") else ""


def _restart(server: object) -> None:
    server.kill()  # type: ignore[attr-defined]
    server.start()  # type: ignore[attr-defined]
