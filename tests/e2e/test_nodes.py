"""Three Ray nodes, one of them killed: jobs go on, each ends once, and what is left shares the connections anew.

One cluster for the whole file: three nodes take half a minute and two gigabytes.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.demo import acts
from cluster.demo.house import House, open_house
from sandpool import Ending, SqlJob

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("trio"), print, nodes=3) as opened:
        yield opened


def connections(house: House) -> int:
    """Of the readers' role: what all pools of the database hold together."""
    return int(house.stage.postgres.execute("select count(*) from pg_stat_activity where usename = 'flights_reader'"))


def test_jobs_go_on_when_a_node_is_killed_half_way_and_none_is_lost_or_ends_twice(trio: House) -> None:
    with trio.client("acme") as acme:
        before = [acme.submit(SqlJob(database="flights", sql=acts.SMALL, params=acts.ROUTES[0])) for _ in range(24)]
        assert {handle.outcome(timeout=90).ending for handle in before} == {Ending.Succeeded}
        assert connections(trio) <= 8, "the budget holds across nodes"
        acts.lose_a_node(acme, trio.raylets, lambda _: None)
        after = [acme.submit(SqlJob(database="flights", sql=acts.SMALL, params=acts.ROUTES[1])) for _ in range(24)]
        assert {handle.outcome(timeout=90).ending for handle in after} == {Ending.Succeeded}
    # The raylet's remains are not reaped here, as in a container without an init: its pool must see for itself that the
    # node is gone. The rest is the server's, which closes what has lost its client.
    deadline = time.monotonic() + 15
    while connections(trio) > 8 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert connections(trio) <= 8, "the budget holds soon after a node was lost"


def test_the_token_of_ray_is_readable_by_its_owner_alone(trio: House) -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_only_the_killed_node_is_gone(trio: House) -> None:
    alive = [pid for pid in trio.raylets if _runs(pid)]
    assert alive == list(trio.raylets[:-1])
    with trio.client("acme") as acme:
        assert acme.submit(SqlJob(database="flights", sql="select 1 as n")).outcome(timeout=60).succeeded


def test_a_node_that_drains_finishes_its_jobs_and_leaves_its_connections_to_the_others(trio: House) -> None:
    nodes = sandpool(trio, "node", "ls")
    assert sorted(node["state"] for node in nodes) == ["head", "up"]
    leaving = next(node["node"] for node in nodes if node["state"] == "up")
    assert (
        "head"
        in sandpool(trio, "node", "drain", next(n["node"] for n in nodes if n["node"] != leaving))[0]["error"][
            "message"
        ]
    )
    with trio.client("acme") as acme:
        jobs = [
            SqlJob(database="flights", sql=acts.SMALL, params=acts.ROUTES[n % 9], max_attempts=1) for n in range(200)
        ]
        handles = [acme.submit(job) for job in jobs]
        assert sandpool(trio, "node", "drain", leaving) == [{"node": leaving, "state": "draining"}]
        assert {handle.outcome(timeout=90).ending for handle in handles} == {Ending.Succeeded}, "with one attempt each"
        deadline = time.monotonic() + 40
        while len(sandpool(trio, "node", "ls")) > 1 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert [node["state"] for node in sandpool(trio, "node", "ls")] == ["head"]
        assert acme.submit(SqlJob(database="flights", sql="select 1 as n")).outcome(timeout=60).succeeded


def sandpool(house: House, *words: str) -> list[dict[str, Any]]:
    """What the command line says as JSON, a line each."""
    command = [sys.executable, "-m", "cluster", *words, "--json", "--config", str(house.stage.config)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "RAY_AUTH_MODE": "token"}
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()
