"""A cluster that starts while its database is away, with a role that may do too much, on a disk that fills up; and its
end by SIGTERM. One cluster of this module's own, on a volume of 8 MiB; the tests run in this order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.local.household import furnish
from cluster.local.leash import descendants
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage
from sandpool import Client, Ending, SqlJob
from sandpool.errors import OutcomeTimeout
from workers.sql.harden import Hardening

VOLUME_MIB = 8
STATEMENT = "select carrier, count(*) as n from flights where month = $1 group by carrier"
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True, slots=True)
class Rough:
    stage: Stage
    pid: int
    log: Path


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rough]:
    ray_folder = Path(tempfile.mkdtemp(prefix="sandpool-"))
    with Stage(tmp_path_factory.mktemp("rough")) as stage, small_disk(stage.volume):
        config = furnish(stage, ray_folder=str(ray_folder))
        config.write_text(configured(stage, config.read_text()))
        stage.postgres.stop()
        process = OwnedProcess(
            "sandpool up",
            [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)],
            folder=stage.folder,
            log=stage.folder / "sandpool.log",
            env=dict(os.environ),
            grace_s=60.0,
            remove_if_orphaned=ray_folder,
        )
        with process:
            process.wait_until(lambda: b'{"state":"up",' in (stage.folder / "sandpool.log").read_bytes(), 180.0)
            assert process.pid is not None
            yield Rough(stage, process.pid, stage.folder / "sandpool.log")
    shutil.rmtree(ray_folder, ignore_errors=True)


class small_disk:  # noqa: N801 - reads like the context managers of contextlib
    """A filesystem of its own, so that "no space left" is the kernel's word."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._folder.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MIB}m,mode=0755", "tmpfs", str(self._folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a small filesystem")

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=False)


def configured(stage: Stage, text: str) -> str:
    """The usual configuration, a sweeper in a hurry and one more database whose role may write though it should not."""
    dsn = stage.add_role(
        Hardening(role="careless", database="flights", tables={"public.flights": ()}, connection_limit=4)
    )
    stage.postgres.execute("GRANT DELETE ON flights TO careless", "flights")
    more = f'[databases.careless]\ndsn = "{dsn}"\npolicy = "policies/flights.toml"\nbudget = 2\n'
    text = text.replace("[scheduler]\n", "[scheduler]\nsweep_interval_s = 1.0\n").replace(
        '["flights", "bookings"]', '["flights", "bookings", "careless"]'
    )
    return f"{text}\n{more}"


@pytest.fixture
def acme(rough: Rough) -> Iterator[Client]:
    with Client(rough.stage.urls["acme"]) as client:
        yield client


def until(holds: Callable[[], object], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)


def test_jobs_wait_for_a_database_that_was_away_when_the_cluster_started(rough: Rough, acme: Client) -> None:
    handles = [acme.submit(SqlJob(database="flights", sql=STATEMENT, params=(n,), max_attempts=9)) for n in (1, 2)]
    time.sleep(3.0)
    assert not any(handle.ended for handle in handles)
    rough.stage.postgres.start()
    assert {handle.outcome(timeout=60).ending for handle in handles} == {Ending.Succeeded}


def test_a_role_that_may_do_too_much_fails_its_jobs_and_names_the_grant(acme: Client) -> None:
    outcome = acme.submit(SqlJob(database="careless", sql="select 1 as n")).outcome(timeout=60)
    assert outcome.ending is Ending.Failed and outcome.error is not None and outcome.error.code == "database.role"
    assert "DELETE" in outcome.error.message + outcome.error.hint
    assert acme.submit(SqlJob(database="flights", sql=STATEMENT, params=(3,))).outcome(timeout=30).succeeded


def test_a_job_waits_while_the_disk_is_full_and_succeeds_when_there_is_room(rough: Rough, acme: Client) -> None:
    filler = rough.stage.volume / ".filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 65_536)
    handle = acme.submit(SqlJob(database="flights", sql=STATEMENT, params=(4,), max_attempts=9))
    with pytest.raises(OutcomeTimeout):
        handle.outcome(timeout=3)
    assert acme.status(handle.job_id).state != "ended"
    filler.unlink()
    assert handle.outcome(timeout=60).table().num_rows > 10


def test_a_result_past_its_retention_is_swept(rough: Rough, acme: Client) -> None:
    outcome = acme.submit(SqlJob(database="flights", sql=STATEMENT, params=(5,), retention_s=2)).outcome(timeout=30)
    folder = rough.stage.volume / "acme" / outcome.job_id
    assert outcome.succeeded and outcome.manifest.parts
    until(lambda: not folder.exists(), 20.0)


def test_no_password_stands_in_a_log_of_the_cluster(rough: Rough) -> None:
    secrets = [url.split(":")[2].split("@")[0] for url in rough.stage.urls.values()]
    secrets += [
        line.split(":")[2].split("@")[0] for line in rough.stage.config.read_text().splitlines() if "dsn" in line
    ]
    logs = [path for path in rough.stage.folder.rglob("*.log") if path.is_file()]
    sessions = next(line for line in rough.stage.config.read_text().splitlines() if line.startswith('folder = "/'))
    logs += [path for path in Path(sessions.split('"')[1]).rglob("logs/**/*") if path.is_file()]
    assert len(secrets) == 7 and len(logs) > 10
    for path in logs:
        text = path.read_bytes()
        assert not any(secret.encode() in text for secret in secrets), path.name


def test_sigterm_drains_and_leaves_no_process_behind(rough: Rough, acme: Client) -> None:
    slow = "select count(*) as n from weather a, flights b where a.hour <> b.distance + 1 and a.month < 3"
    running = acme.submit(SqlJob(database="flights", sql=slow, timeout_s=2.0))
    until(lambda: acme.status(running.job_id).state == "running", 20.0)
    children = descendants(rough.pid)
    assert len(children) > 5
    os.kill(rough.pid, signal.SIGTERM)
    assert running.outcome(timeout=30).ending is Ending.TimedOut
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (rough.pid, *children)), 30.0)
    assert '"state":"stopped"' in rough.log.read_text()
