"""`submit`, `status`, `cancel` and `jobs`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_submit_prints_the_id_and_does_not_wait(house) -> None:
    result = house.call("submit", "-d", "flights", "--sql", "select 1 -- hold", "--id", "held")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "held\n", "")
    assert house.bench.holding.wait(5)
    assert "running" in house.call("status", "held").stdout
    assert "Cancelled" in house.call("cancel", "held").stdout


def test_submit_takes_a_file_or_standard_input(house, tmp_path: Path) -> None:
    job = {"database": "flights", "sql": "select 1 as a", "id": "from-file", "labels": {"k": "v"}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert house.call("submit", str(tmp_path / "job.json")).stdout == "from-file\n"
    by_stdin = house.call("submit", "-", "--json", stdin=json.dumps({**job, "id": "from-stdin"}))
    assert json.loads(by_stdin.stdout) == {"job_id": "from-stdin"}
    waited = house.call("status", "from-file", "from-stdin", "--wait", "5", "--json")
    answers = [json.loads(line) for line in waited.stdout.splitlines()]
    assert [answer["job_id"] for answer in answers] == ["from-file", "from-stdin"]
    assert all(answer["outcome"]["ending"] == "Succeeded" and "inline" not in answer["outcome"] for answer in answers)


@pytest.mark.parametrize(
    "job", ["{", "[]", "{}", '{"database": "flights"}', '{"database": "flights", "sql": "select 1", "user": "x"}']
)
def test_submit_refuses_a_file_that_is_no_job(house, job: str) -> None:
    result = house.call("submit", "-", stdin=job)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: job: ")


def test_submit_wants_a_file_or_options_but_not_both(house) -> None:
    assert house.call("submit").exit_code == 2
    assert house.call("submit", "--sql", "select 1").exit_code == 2
    both = house.call("submit", "-", "-d", "flights", stdin='{"database": "flights", "sql": "select 1"}')
    assert both.exit_code == 2


def test_status_of_a_job_that_nobody_saw_is_unknown(house) -> None:
    result = house.call("status", "never", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"job_id": "never", "state": "unknown", "outcome": None}
    assert house.call("status", "never", "--wait", "0.05").exit_code == 4
    assert house.call("status", "../never").exit_code == 2


def test_a_job_cancelled_before_it_arrives_never_runs(house) -> None:
    assert "Cancelled" in house.call("cancel", "early").stdout
    assert house.call("sql", "-d", "flights", "select 1", "--id", "early").exit_code == 15
    assert house.bench.ran == []


def test_jobs_lists_recorded_outcomes_newest_first(house) -> None:
    house.configure()
    for name, sql in (("a", "select 1 as a"), ("b", "select * from forbidden"), ("c", "select 3 as a")):
        house.call("sql", "-d", "flights", sql, "--id", name)
    listed = [json.loads(line)["job_id"] for line in house.call("jobs", "--json").stdout.splitlines()]
    assert listed == ["c", "b", "a"]
    denied = house.call("jobs", "--ending", "Denied")
    assert "b" in denied.stdout.split()
    assert "table.unlisted" in denied.stdout
    assert "Succeeded" not in denied.stdout
    assert len(house.call("jobs", "--limit", "2", "--json").stdout.splitlines()) == 2
    assert house.call("jobs", "--since", "1h", "--json").stdout.count("\n") == 3
    assert house.call("jobs", "--since", "2099-01-01", "--json").stdout == ""
    assert house.call("jobs", "--since", "yesterday-ish").exit_code == 2
    assert house.call("jobs", "--volume", "other").exit_code == 2


def test_jobs_tells_of_a_record_that_cannot_be_read_and_lists_the_others(house) -> None:
    house.configure()
    house.call("sql", "-d", "flights", "select 1 as a", "--id", "good")
    house.volume.create("acme/bad/manifest.json", b"{}")
    result = house.call("jobs")
    assert "good" in result.stdout
    assert "bad" in result.stderr
    assert result.exit_code == 0


def test_explain_says_where_a_job_is_and_how_it_ended(house) -> None:
    house.call("submit", "-d", "flights", "--sql", "select 1 -- hold", "--id", "held")
    assert house.bench.holding.wait(5)
    assert house.call("explain", "held").stdout.startswith("held running: runs as a statement on 'flights' on node n")
    document = json.loads(house.call("explain", "held", "--json").stdout)
    assert (document["job"], document["state"], document["node"]) == ("held", "running", "n")
    house.call("cancel", "held")
    assert house.call("explain", "held").stdout.startswith("held ended: Cancelled")


def test_explain_of_a_job_that_nobody_knows_is_an_exit_code_of_its_own(house) -> None:
    result = house.call("explain", "never")
    assert result.exit_code == 6 and "was never submitted" in result.stderr
    error = json.loads(house.call("explain", "never", "--json").stdout)
    assert error["error"]["kind"] == "JobUnknown" and error["exit"] == 6
    assert house.call("explain", "../never").exit_code == 2
