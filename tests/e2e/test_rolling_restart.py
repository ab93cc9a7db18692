"""Rolling restarts under load. First the whole cluster is drained by SIGTERM and another one started, with two
schedulers; then these are restarted one after the other, and pools and hosts after them, while jobs flow all the time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.demo import acts
from cluster.local.household import furnish
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage
from sandpool import Client, CommandJob, Ending, SqlJob

MOST_JOBS = 100_000
pytestmark = pytest.mark.timeout(400)


def start_up(config: Path, log: Path) -> OwnedProcess:
    command = [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)]
    return OwnedProcess(
        "sandpool up",
        command,
        folder=Path.cwd(),
        log=log,
        env=dict(os.environ),
        stop_signal=signal.SIGTERM,
        grace_s=90,
    )


def test_a_rolling_restart_under_load_loses_nothing_and_ends_every_job_once(tmp_path: Path) -> None:
    ray_folder = Path(tempfile.mkdtemp(prefix="sp-"))
    ended: Counter[str] = Counter()
    endings: set[Ending] = set()
    failures: list[Exception] = []
    submitted: list[str] = []
    enough = threading.Event()

    def jobs() -> Iterator[SqlJob]:
        for n in range(MOST_JOBS):
            if enough.is_set():
                return
            submitted.append(f"rolling-{n}")
            route = acts.ROUTES[n % len(acts.ROUTES)]
            yield SqlJob(id=submitted[-1], database="flights", sql=acts.SMALL, params=route)

    def load(url: str) -> None:
        try:
            with Client(url) as client:
                for outcome in client.run_many(jobs(), max_in_flight=128, timeout=240):
                    ended[outcome.job_id] += 1
                    endings.add(outcome.ending)
        except Exception as error:
            failures.append(error)

    try:
        with Stage(tmp_path / "stage", durable=False) as stage:
            config = furnish(stage, ray_folder=str(ray_folder))
            first_log, second_log = tmp_path / "first.log", tmp_path / "second.log"
            sender = threading.Thread(target=load, args=(stage.urls["acme"],))
            with start_up(config, first_log) as first:
                first.wait_until(lambda: '"state":"up"' in first_log.read_text(), 180)
                sender.start()
                wait_for(lambda: len(ended) >= 100)
            # The block has ended by SIGTERM, and it did not have to be killed.
            assert '{"state":"stopped"}' in first_log.read_text(), first_log.read_text()
            config.write_text(config.read_text().replace("replicas = 1", "replicas = 2"))
            with start_up(config, second_log) as second:
                second.wait_until(lambda: '"state":"up"' in second_log.read_text(), 180)
                wait_for(lambda: len(ended) >= 300)
                restart_everything_and_keep_what_is_kept(config, stage)
                seen = len(ended)
                wait_for(lambda: len(ended) >= seen + 200)
                enough.set()
                sender.join(timeout=240)
                assert a_cancel_reaches_the_scheduler_that_holds_the_job(stage.urls["acme"]) == {Ending.Cancelled}
            dead = call(config, "dead", "ls")
        assert failures == []
        assert set(ended) == set(submitted) and set(ended.values()) == {1}
        assert endings == {Ending.Succeeded}
        assert dead == [], "no dead letters"
    finally:
        enough.set()
        shutil.rmtree(ray_folder, ignore_errors=True)


def restart_everything_and_keep_what_is_kept(config: Path, stage: Stage) -> None:
    """Schedulers, then pools and hosts, which have another budget afterwards. A kept sandbox is there as it was; a job
    that takes longer than the node's time runs again."""
    tenant = ("--tenant", "acme")
    (kept,) = call(config, "sandbox", "create", "--forever", *tenant)
    call(config, "sandbox", "code", kept["id"], "-c", "answer = 42", *tenant)
    with Client(stage.urls["acme"]) as client:
        slow = client.submit(CommandJob(argv=("sleep", "8"), image="base"))
        wait_for(lambda: slow.status().state == "running")
        config.write_text(config.read_text().replace("budget = 8", "budget = 11"))
        told = call(config, "restart", "--workers", "--within", "3")
        assert [line["state"] for line in told] == ["scheduler restarted", "scheduler-2 restarted", "renewed"], told
        assert slow.outcome(timeout=90).ending is Ending.Succeeded
    count = "select count(*) from pg_stat_activity where usename = 'flights_reader'"
    wait_for(lambda: int(stage.postgres.execute(count)) == 11)
    (ran,) = call(config, "sandbox", "code", kept["id"], "-c", "print(answer)", *tenant)
    assert ran["stdout"] == "42\n", ran


def call(config: Path, *words: str) -> list[Any]:
    """What the command line says, line by line."""
    command = [sys.executable, "-m", "cluster", *words, "--json", "--config", str(config)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stdout + run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def a_cancel_reaches_the_scheduler_that_holds_the_job(url: str) -> set[Ending]:
    """The broker hands jobs and calls to either scheduler; statements that would run for hours are stopped."""
    sql = "select count(*) from flights a, planes b where a.distance + b.seats = 7"
    with Client(url) as client:
        handles = [client.submit(SqlJob(database="flights", sql=sql, timeout_s=300)) for _ in range(6)]
        wait_for(lambda: all(handle.status().state == "running" for handle in handles))
        for handle in handles:
            assert handle.cancel(timeout=70).state == "ended"
        return {handle.outcome(timeout=30).ending for handle in handles}


def wait_for(holds: object, timeout_s: float = 90.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)
