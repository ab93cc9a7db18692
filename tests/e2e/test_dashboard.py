"""What an operator sees: actors by the names of the architecture in Ray's API, and the work in its metrics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cluster.metrics import exported_names
from tests.support.dashboard import Watched, watched_cluster

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_cluster(tmp_path_factory.mktemp("watched")) as made:
        for number in range(5):
            run = made.sandpool("sql", "-d", "flights", f"select {number} as n")
            assert run.returncode == 0, run.stderr
        assert made.sandpool("sql", "-d", "flights", "select * from pg_shadow").returncode == 10
        yield made


def test_the_dashboard_shows_the_actors_of_the_architecture_by_name(watched: Watched) -> None:
    actors = watched.ask("/api/v0/actors?detail=true&limit=100")["data"]["result"]["result"]
    alive = {actor["name"]: actor for actor in actors if actor["state"] == "ALIVE"}
    kinds = {re.split("[:@]", name)[0] for name in alive}
    assert {"scheduler", "pool"} <= kinds, sorted(alive)
    databases = {re.split("[:@]", name)[1] for name in alive if name.startswith("pool:")}
    assert databases == {"flights", "airline", "bookings"}
    assert all(actor["ray_namespace"] == "sandpool" for actor in alive.values())


def test_the_metrics_endpoint_tells_of_every_stage_of_the_jobs(watched: Watched) -> None:
    wanted = (
        r'^ray_sandpool_jobs_total\{.*ending="Succeeded".*tenant="acme".*\} 5\.0$',
        r'^ray_sandpool_denials_total\{.*rule="table\.[a-z]+".*\} 1\.0$',
        *(
            rf'^ray_sandpool_stage_seconds_count\{{.*stage="{stage}".*\}} [1-9]'
            for stage in ("queue", "find", "admit", "place", "run", "record", "settle")
        ),
        r'^ray_sandpool_queue_messages\{.*queue="sandpool\.jobs\.sql\.batch".*\} 0\.0$',
        r'^ray_sandpool_pool_connections\{.*database="flights".*state="budget".*\} 8\.0$',
        r"^ray_sandpool_up\{.*\} 1\.0$",
    )
    _wait_for(watched, lambda metrics: all(re.search(pattern, metrics, re.MULTILINE) for pattern in wanted))


def test_every_series_of_ours_is_a_known_metric(watched: Watched) -> None:
    metrics = _wait_for(watched, lambda metrics: "ray_sandpool_jobs_total" in metrics)
    names = set(re.findall(r"^(ray_sandpool_\w+)\{", metrics, re.MULTILINE))
    assert names
    assert names <= exported_names()


def _wait_for(watched: Watched, holds: Callable[[str], bool], timeout_s: float = 60.0) -> str:
    """The metrics of which this holds. Ray exports what was observed some ten seconds later, on a port that its
    discovery file may name before anything listens there."""
    deadline_s = time.monotonic() + timeout_s
    metrics = "no endpoint answered"
    while True:
        with suppress(OSError):
            metrics = watched.metrics()
        if holds(metrics):
            return metrics
        assert time.monotonic() < deadline_s, metrics
        time.sleep(1)
