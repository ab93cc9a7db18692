"""What dies comes back, and no job is lost or ends twice: real kills on a running cluster."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cluster.demo import acts
from cluster.demo.house import House
from cluster.local.leash import descendants
from sandpool import Client, Ending, SqlJob

SLOW = "select count(*) as n from weather a, flights b where a.hour <> b.distance + 1"
"""Nine billion pairs: many minutes, and still under the policy's cost ceiling."""
pytestmark = pytest.mark.timeout(400)  # the cluster starts with the first test


def actor_pids(house: House, title: str) -> list[int]:
    """Processes of the cluster whose Ray title contains `title`."""
    assert house.pid is not None
    found = []
    for pid in descendants(house.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words.startswith("ray::") and title in words:
            found.append(pid)
    return found


def kill(house: House, title: str) -> None:
    pids = actor_pids(house, title)
    assert pids, f"no process {title}"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def batch(count: int, offset: int) -> list[SqlJob]:
    routes = acts.ROUTES
    return [
        SqlJob(database="flights", sql=acts.SMALL, params=routes[(offset + i) % len(routes)], max_attempts=5)
        for i in range(count)
    ]


@pytest.mark.parametrize("title", ["Conductor", "Pool"])
def test_jobs_under_way_survive_the_kill_of_the(house: House, acme: Client, title: str) -> None:
    killed = False
    ended: dict[str, Ending] = {}
    for outcome in acme.run_many(batch(600, 0), max_in_flight=64):
        assert outcome.job_id not in ended
        ended[outcome.job_id] = outcome.ending
        if len(ended) == 100 and not killed:
            kill(house, title)
            killed = True
    assert killed and len(ended) == 600 and set(ended.values()) == {Ending.Succeeded}


def test_jobs_wait_for_a_database_that_restarts(house: House, acme: Client) -> None:
    handles = [acme.submit(job) for job in batch(20, 0)]
    house.stage.postgres.stop()
    late = [acme.submit(job) for job in batch(20, 20)]
    time.sleep(1.0)
    house.stage.postgres.start()
    assert {handle.outcome(timeout=90).ending for handle in handles + late} == {Ending.Succeeded}


def test_jobs_survive_a_restart_of_the_broker(house: House, acme: Client) -> None:
    assert house.stage.rabbitmq is not None
    handles = [acme.submit(job) for job in batch(50, 0)]
    house.stage.rabbitmq.stop()
    house.stage.rabbitmq.start()
    assert {handle.outcome(timeout=90).ending for handle in handles} == {Ending.Succeeded}
    assert acme.submit(batch(1, 50)[0]).outcome(timeout=60).succeeded


def test_cancelling_a_job_stops_its_statement_on_the_server(house: House, acme: Client) -> None:
    handle = acme.submit(SqlJob(database="flights", sql=SLOW, timeout_s=300.0))
    deadline = time.monotonic() + 20
    while "distance" not in active(house):
        assert time.monotonic() < deadline, "the statement does not start"
        time.sleep(0.1)
    handle.cancel(timeout=30)
    assert handle.outcome(timeout=30).ending is Ending.Cancelled
    assert "distance" not in active(house)


def test_a_statement_over_its_time_ends_timed_out(acme: Client) -> None:
    outcome = acme.submit(SqlJob(database="flights", sql=SLOW, timeout_s=0.5)).outcome(timeout=60)
    assert outcome.ending is Ending.TimedOut


def active(house: House) -> str:
    """Statements that run now on the flights database."""
    return house.stage.postgres.execute(
        "select query from pg_stat_activity where application_name like 'sandpool:%' and state = 'active';"
    )
