"""The command line as a user has it: processes of their own, against `sandpool up` on real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from cluster.local.household import furnish
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage
from tests.sandbox.conftest import IMAGES
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore

LONG = "select count(*) from flights a, planes b where a.distance + b.seats = 7"
Call = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Private servers with the flights, and `sandpool up` on them."""
    # Ray puts sockets below its folder, whose paths may have 107 bytes.
    ray_folder = Path(tempfile.mkdtemp(prefix="sandpool-"))
    try:
        with Stage(tmp_path_factory.mktemp("stage"), durable=False) as made:
            config = furnish(made, ray_folder=str(ray_folder))
            log = made.folder / "up.log"
            command = [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)]
            up = OwnedProcess(
                "sandpool up",
                command,
                folder=Path.cwd(),
                log=log,
                env=dict(os.environ),
                stop_signal=signal.SIGINT,
                grace_s=60,
            )
            with up:
                up.wait_until(lambda: '"state":"up"' in log.read_text(), 120)
                yield made
            assert '{"state":"stopped"}' in log.read_text(), log.read_text()
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(stage: Stage) -> dict[str, str]:
    return {**os.environ, "SANDPOOL_CONFIG": str(stage.config)}


@pytest.fixture
def call(environment: dict[str, str]) -> Call:
    def run(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cluster", *args]
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=120)

    return run


def test_a_count_is_printed_as_a_table(call: Call) -> None:
    run = call("sql", "-d", "flights", "select count(*) as n from flights")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["n", "──────", "336776"]


def test_what_code_writes_is_printed_while_it_runs_and_ctrl_c_ends_it(
    environment: dict[str, str], call: Call, tmp_path: Path
) -> None:
    build(ImageStore(IMAGES), load(Path("images/base")), environment=os.environ)
    path = tmp_path / "endless.py"
    path.write_text("import time\nprint('first')\nwhile True: time.sleep(0.05)")
    command = [sys.executable, "-m", "cluster", "run", "--image", "base", "--id", "endless", str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    outcome = call("result", "endless", "--wait", "30", "--json")
    assert outcome.returncode == 15, outcome.stderr
    assert json.loads(outcome.stdout)["stdout"] == "first\n"


def test_the_whole_table_lands_in_one_file(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "flights.parquet"
    run = call("sql", "-d", "flights", "select * from flights", "-o", str(path))
    assert run.returncode == 0, run.stderr
    found = duckdb.execute("select count(*), count(distinct carrier) from read_parquet($1)", [str(path)]).fetchone()
    assert found == (336_776, 16)


def test_a_large_result_streams_as_csv_through_a_pipe_that_closes_early(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m cluster sql -d flights 'select * from flights' --format csv | head -n 3"
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert len(run.stdout.splitlines()) == 3
    assert run.returncode == 0
    assert "Traceback" not in run.stderr


def test_a_denied_statement_exits_10(call: Call) -> None:
    run = call("sql", "-d", "flights", "select * from pg_shadow")
    assert (run.returncode, run.stdout) == (10, "")
    assert "Denied by rule table." in run.stderr


def test_a_database_of_another_tenant_is_unknown(call: Call) -> None:
    run = call("sql", "-d", "airline", "select 1")
    assert run.returncode == 10
    assert "database.unknown" in run.stderr


def test_ctrl_c_cancels_the_statement_on_the_server(stage: Stage, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "cluster", "sql", "-d", "flights", LONG, "--id", "interrupted"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: statements_under_way(stage) == 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "cancelled job interrupted" in stderr
    wait_for(lambda: statements_under_way(stage) == 0)


def test_submit_status_and_result_need_nothing_but_the_id(call: Call) -> None:
    job = call("submit", "-d", "flights", "--sql", "select 42 as answer").stdout.strip()
    waited = call("status", job, "--wait", "30", "--json")
    assert json.loads(waited.stdout)["outcome"]["ending"] == "Succeeded", waited.stderr
    assert json.loads(call("result", job, "--format", "json").stdout) == [{"answer": 42}]
    assert job in call("jobs", "--tenant", "acme", "--limit", "5").stdout
    assert call("explain", job).stdout == f"{job} ended: Succeeded\n"


def test_a_batch_counts_every_line_and_repeats_nothing(call: Call, tmp_path: Path) -> None:
    sql = "select carrier, avg(arr_delay) delay from flights where origin=$1 and month=$2 and day=$3 group by 1"
    lines = [
        json.dumps({"database": "flights", "sql": sql, "params": ["EWR", 1 + i % 12, 1 + i // 12]}) for i in range(200)
    ]
    lines[7] = "no json"
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    args = ("batch", str(tmp_path / "jobs.jsonl"), "--json", "--out", str(tmp_path / "out.jsonl"))
    first, again = call(*args), call(*args)
    for run, before in ((first, 0), (again, 199)):
        summary = json.loads(run.stdout.splitlines()[-1])["summary"]
        assert run.returncode == 1
        assert summary["endings"] == {"Succeeded": 199}
        assert (summary["malformed"], summary["recorded_before"]) == (1, before)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 199


def test_writes_and_their_repetition_have_one_effect(call: Call, stage: Stage) -> None:
    args = ("sql", "-d", "bookings", "--writes", "--id", "book-once")
    statement = "insert into bookings (booking_id, carrier, seats) values ($1, 'UA', 2)"
    for _ in range(2):
        run = call(*args, statement, "-p", "4711")
        assert run.returncode == 0, run.stderr
        assert "1 row changed" in run.stderr
    assert stage.postgres.execute("select count(*) from bookings where booking_id = 4711", "bookings").strip() == "1"


def test_a_role_that_may_do_more_than_it_should_is_found(call: Call, stage: Stage) -> None:
    good = call("database", "check", "flights")
    assert good.returncode == 0, good.stdout + good.stderr
    stage.postgres.execute("grant delete on planes to flights_reader", "flights")
    try:
        bad = call("database", "check", "flights", "--json")
        assert bad.returncode == 1
        problems = json.loads(bad.stdout)["problems"]
        assert [problem["problem"] for problem in problems] == ["may DELETE on public.planes"]
        stage.postgres.execute(problems[0]["fix"], "flights")
    finally:
        stage.postgres.execute("revoke delete on planes from flights_reader", "flights")
    assert call("database", "check", "flights").returncode == 0


def test_what_harden_prints_makes_a_role_that_the_check_accepts(call: Call, stage: Stage) -> None:
    for name in ("flights", "airline", "bookings"):
        for more in ((), ("--connect",)):
            run = call("database", "harden", name, *more)
            assert run.returncode == 0, run.stderr
            stage.postgres.execute(run.stdout, "bookings" if name == "bookings" else "flights")
        checked = call("database", "check", name)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def statements_under_way(stage: Stage) -> int:
    sql = "select count(*) from pg_stat_activity where state = 'active' and usename = 'flights_reader'"
    return int(stage.postgres.execute(f"{sql} and query ilike '%distance%'"))


def wait_for(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.1)


def test_up_says_what_runs_where_without_a_secret(stage: Stage) -> None:
    lines = [json.loads(line) for line in (stage.folder / "up.log").read_text().splitlines() if line.startswith("{")]
    assert lines[0] == {"state": "starting"}
    assert lines[-1]["state"] == "up"
    assert lines[-1]["databases"].keys() == {"flights", "airline", "bookings"}
    assert not any(url.rpartition("@")[0].rpartition(":")[2] in str(lines) for url in stage.urls.values())
