"""`sandpool batch`: every line accounted for, nothing repeated, one bad line stops nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from sandpool.job import SqlJob


def write_lines(path: Path, *lines: object) -> str:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def select(number: int, **fields: object) -> dict[str, object]:
    return {"database": "flights", "sql": "select $1::int as n", "params": [number], **fields}


def documents(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_run_and_counted(house, tmp_path: Path) -> None:
    result = house.call("batch", write_lines(tmp_path / "jobs.jsonl", *(select(i) for i in range(100))))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "100 Succeeded" in result.stderr
    assert len(house.bench.ran) == 100


def test_one_job_that_does_not_succeed_makes_the_exit_code_1(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", select(1), {"database": "flights", "sql": "select * from forbidden"})
    result = house.call("batch", path)
    assert result.exit_code == 1
    assert "1 Succeeded, 1 Denied" in result.stderr


def test_lines_that_are_no_job_are_named_and_stop_nothing(house, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "jobs.jsonl",
        select(1),
        "{not json",
        "",
        {"database": "flights"},
        {"database": "flights", "sql": "select 1", "sqll": 1},
        "[1]",
        {"database": "flights", "sql": "select 1", "id": "../up"},
        {"database": "flights", "sql": "x" * 2_000_000},
        select(2),
    )
    result = house.call("batch", path, "--json")
    *lines, last = documents(result.stdout)
    assert sorted(line["line"] for line in lines if "line" in line) == [2, 4, 5, 6, 7, 8]
    assert all(line["error"] for line in lines if "line" in line)
    assert last["summary"]["endings"] == {"Succeeded": 2}
    assert last["summary"]["malformed"] == 6
    assert result.exit_code == 1


def test_the_same_call_again_runs_nothing_again(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", select(1), select(2), select(1))
    assert house.call("batch", path).exit_code == 0
    again = house.call("batch", path)
    assert again.exit_code == 0
    assert "3 had ended before this call" in again.stderr
    assert len(house.bench.ran) == 3


def test_another_run_name_makes_new_jobs(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", select(1))
    for name in ("monday", "tuesday", "tuesday"):
        assert house.call("batch", path, "--run", name).exit_code == 0
    assert len(house.bench.ran) == 2


def test_outcomes_are_appended_and_what_stands_there_is_skipped(house, tmp_path: Path) -> None:
    out = tmp_path / "outcomes.jsonl"
    path = write_lines(tmp_path / "jobs.jsonl", select(1), select(2))
    assert house.call("batch", path, "--out", str(out)).exit_code == 0
    write_lines(tmp_path / "jobs.jsonl", select(1), select(3), select(2))
    with out.open("ab") as torn:
        torn.write(b'{"job_id": "cut sho')
    result = house.call("batch", path, "--out", str(out), "--json")
    assert result.exit_code == 0
    assert documents(result.stdout)[-1]["summary"]["recorded_before"] == 2
    outcomes = documents(out.read_text())
    assert len(outcomes) == 3
    assert len({outcome["job_id"] for outcome in outcomes}) == 3
    assert {outcome["ending"] for outcome in outcomes} == {"Succeeded"}


def test_a_file_of_something_else_is_not_taken_for_outcomes(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", select(1))
    result = house.call("batch", path, "--out", path)
    assert result.exit_code == 2
    assert "line 1 is no outcome" in result.stderr
    assert documents(Path(path).read_text()) == [select(1)]
    assert house.bench.ran == []


def test_an_id_that_names_other_work_on_a_later_line_is_reported(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", select(1, id="a"), select(2, id="a"), select(1, id="a", timeout_s=9))
    result = house.call("batch", path)
    assert "line 2: id 'a' names other work on line 1" in result.stderr
    assert "1 lines named a job of an earlier line" in result.stderr
    assert result.exit_code == 1
    assert house.bench.ran == ["a"]


def test_lines_may_come_from_a_pipe_and_share_a_database(house) -> None:
    result = house.call("batch", "-", "-d", "flights", stdin='{"sql": "select 1 as a"}\n{"sql": "select 2 as a"}')
    assert result.exit_code == 0
    assert "2 Succeeded" in result.stderr


def test_ctrl_c_ends_with_a_summary_and_the_next_call_goes_on(house, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "jobs.jsonl", select(1), {"database": "flights", "sql": "select 1 -- hold", "id": "held"}
    )

    def interrupt() -> None:
        house.bench.holding.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = house.call("batch", path)
    thread.join()
    assert result.exit_code == 130
    assert "not finished" in result.stderr
    house.call("cancel", "held")
    again = house.call("batch", path)
    assert again.exit_code == 1
    assert "1 Succeeded, 1 Cancelled" in again.stderr
    assert len(house.bench.ran) == 2


def test_a_batch_with_a_wait_that_is_too_short_exits_4(house, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "jobs.jsonl", {"database": "flights", "sql": "select 1 -- hold", "id": "held"})
    result = house.call("batch", path, "--wait", "0.05")
    assert result.exit_code == 4
    assert "not finished" in result.stderr
    house.call("cancel", "held")


def test_a_line_has_the_fields_of_a_job(house, tmp_path: Path) -> None:
    fields = {"labels": {"team": "a"}, "deadline": "2099-01-01T00:00:00Z", "priority": "interactive", "max_rows": 5}
    result = house.call("batch", write_lines(tmp_path / "jobs.jsonl", select(1, **fields)), "--json")
    outcome = documents(result.stdout)[0]
    assert outcome["labels"] == {"team": "a"}
    assert set(fields) <= set(SqlJob.__struct_fields__)
