"""`sandpool sql` and `sandpool result`: what they print where, and with which code they end."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

LARGE = "select i, i * 2 as twice, 'row ' || i as name from range(50000) t(i)"


def test_rows_are_a_table_on_stdout_and_the_footer_is_on_stderr(house) -> None:
    result = house.call("sql", "-d", "flights", "select 1 as a, 'x' as b union all select 20, null order by 1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [" a  b", "──  ────", " 1  x", "20  NULL"]
    assert "2 rows" in result.stderr
    assert "attempt 1" in result.stderr
    assert "job " in result.stderr


def test_parameters_travel_as_text_or_as_json(house) -> None:
    by_text = house.call(
        "sql", "-d", "flights", "select $1::int + $2::int as n", "-p", "40", "-p", "2", "--format", "csv"
    )
    by_json = house.call("sql", "-d", "flights", "select $1::int as n", "--params", "[null]", "--format", "json")
    assert by_text.stdout == '"n"\n42\n'
    assert json.loads(by_json.stdout) == [{"n": None}]


def test_a_statement_comes_from_standard_input(house) -> None:
    assert json.loads(house.call("sql", "-d", "flights", "-", "--format", "json", stdin="select 7 as n").stdout) == [
        {"n": 7}
    ]


def test_a_denied_statement_names_rule_and_way_out_on_stderr_and_exits_10(house) -> None:
    result = house.call("sql", "-d", "flights", "select * from forbidden")
    assert result.exit_code == 10
    assert result.stdout == ""
    assert "Denied by rule table.unlisted" in result.stderr
    assert "tables here: flights" in result.stderr
    assert house.bench.ran == []


@pytest.mark.parametrize(
    ("ending", "code"),
    [("Failed", 11), ("TimedOut", 12), ("OutOfMemory", 13), ("OutputCapped", 14)],
)
def test_every_ending_has_its_own_exit_code(house, ending: str, code: int) -> None:
    result = house.call("sql", "-d", "flights", f"select 1 -- ends {ending}")
    assert result.exit_code == code
    assert "statement.scripted (SQLSTATE 42P01)" in result.stderr
    assert "hint: write something else" in result.stderr


def test_a_large_result_is_shown_in_part_and_written_whole(house, tmp_path: Path) -> None:
    shown = house.call("sql", "-d", "flights", LARGE, "--show", "3")
    assert len(shown.stdout.splitlines()) == 5
    assert "50,000 rows, 3 shown" in shown.stderr
    for name, read in (
        ("rows.parquet", lambda path: pq.read_table(path).num_rows),
        ("rows.arrow", lambda path: pa.ipc.open_file(path).read_all().num_rows),
        ("rows.csv", lambda path: len(path.read_text().splitlines()) - 1),
        ("rows.json", lambda path: len(json.loads(path.read_bytes()))),
    ):
        path = tmp_path / name
        result = house.call("sql", "-d", "flights", LARGE, "-o", str(path))
        assert result.exit_code == 0
        assert result.stdout == ""
        assert read(path) == 50_000
    assert sorted(path.name for path in tmp_path.glob("*rows*")) == [
        "rows.arrow",
        "rows.csv",
        "rows.json",
        "rows.parquet",
    ]


def test_the_large_result_is_the_right_one(house) -> None:
    rows = list(csv.DictReader(io.StringIO(house.call("sql", "-d", "flights", LARGE, "--format", "csv").stdout)))
    assert len(rows) == 50_000
    assert rows[49_999] == {"i": "49999", "twice": "99998", "name": "row 49999"}


def test_an_empty_result_keeps_its_columns(house) -> None:
    result = house.call("sql", "-d", "flights", "select 1 as a where false")
    assert result.exit_code == 0
    assert result.stdout.split() == ["a", "─"]
    assert "0 rows" in result.stderr
    assert house.call("sql", "-d", "flights", "select 1 as a where false", "--format", "csv").stdout == '"a"\n'
    assert json.loads(house.call("sql", "-d", "flights", "select 1 where false", "--format", "json").stdout) == []


def test_a_result_that_a_limit_ended_is_not_taken_for_a_whole_one(house, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    refused = house.call("sql", "-d", "flights", "select 1 -- ends OutputCapped", "-o", str(path))
    assert refused.exit_code == 14
    assert not path.exists()
    assert "--partial" in refused.stderr
    taken = house.call("sql", "-d", "flights", "select 1 -- ends OutputCapped", "-o", str(path), "--partial")
    assert taken.exit_code == 14
    assert path.read_text() == '"a"\n1\n'


def test_a_file_that_cannot_be_written_leaves_the_old_one(house, tmp_path: Path) -> None:
    old = tmp_path / "rows.csv"
    old.write_text("old")
    (tmp_path / "missing").mkdir(mode=0o500)
    result = house.call("sql", "-d", "flights", "select 1 as a", "-o", str(tmp_path / "nowhere" / "rows.csv"))
    assert result.exit_code == 5
    assert "nowhere" in result.stderr
    denied = house.call("sql", "-d", "flights", "select * from forbidden", "-o", str(old))
    assert denied.exit_code == 10
    assert old.read_text() == "old"


def test_json_is_one_document_with_outcome_and_rows(house) -> None:
    result = house.call("sql", "-d", "flights", "select 1 as a", "--json")
    document = json.loads(result.stdout)
    assert document["outcome"]["ending"] == "Succeeded"
    assert document["rows"] == [{"a": 1}]
    assert result.stderr == ""
    denied = house.call("sql", "-d", "flights", "select * from forbidden", "--json")
    document = json.loads(denied.stdout)
    assert denied.exit_code == 10
    assert document["rows"] is None
    assert document["outcome"]["verdict"]["rule"] == "table.unlisted"


def test_json_with_a_file_names_the_file(house, tmp_path: Path) -> None:
    result = house.call("sql", "-d", "flights", "select 1 as a", "--json", "-o", str(tmp_path / "a.csv"))
    assert json.loads(result.stdout)["file"] == str(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == '"a"\n1\n'


def test_a_write_says_how_many_rows_it_changed(house) -> None:
    result = house.call("sql", "-d", "flights", "update flights set x = 1", "--writes")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "3 rows changed" in result.stderr


def test_the_same_id_shows_the_recorded_result_and_runs_once(house) -> None:
    for _ in range(2):
        assert house.call("sql", "-d", "flights", "select 1 as a", "--id", "same").exit_code == 0
    conflict = house.call("sql", "-d", "flights", "select 2 as a", "--id", "same")
    assert house.bench.ran == ["same"]
    assert conflict.exit_code == 2
    assert "already used" in conflict.stderr


def test_ctrl_c_cancels_the_job_first_and_exits_130(house) -> None:
    def interrupt() -> None:
        house.bench.holding.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = house.call("sql", "-d", "flights", "select 1 -- hold", "--id", "held")
    thread.join()
    assert result.exit_code == 130
    assert "cancelled job held" in result.stderr
    assert "Cancelled" in house.call("status", "held").stdout


def test_a_wait_that_is_too_short_exits_4_and_says_how_to_go_on(house) -> None:
    result = house.call("sql", "-d", "flights", "select 1 -- hold", "--id", "held", "--wait", "0.05")
    assert result.exit_code == 4
    assert "sandpool cancel held" in result.stderr
    assert house.call("cancel", "held").exit_code == 0


def test_a_value_cannot_command_the_terminal(house) -> None:
    result = house.call("sql", "-d", "flights", "select chr(27) || '[31mred' || chr(10) || 'x' as v, 'NULL' as t")
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred\\nx" in result.stdout
    assert '"NULL"' in result.stdout


def test_the_result_of_a_job_that_has_ended_can_be_had_again(house) -> None:
    assert house.call("sql", "-d", "flights", "select 5 as n", "--id", "five").exit_code == 0
    again = house.call("result", "five", "--format", "json")
    assert json.loads(again.stdout) == [{"n": 5}]
    assert len(house.bench.ran) == 1
    never = house.call("result", "never-seen")
    assert never.exit_code == 4
    assert never.stdout == ""


@pytest.mark.parametrize(
    "args",
    [
        ("select 1",),
        ("select 1", "-d", "flights", "--param", "1", "--params", "[1]"),
        ("select 1", "-d", "flights", "--params", "{"),
        ("select 1", "-d", "flights", "--label", "nokey"),
        ("select 1", "-d", "flights", "-o", "rows.xlsx"),
        ("select 1", "-d", "No Database"),
        ("select 1", "-d", "flights", "--timeout", "0"),
        ("select 1", "-d", "flights", "--id", "../x"),
    ],
)
def test_a_wrong_call_exits_2_with_one_line_and_runs_nothing(house, args: tuple[str, ...]) -> None:
    result = house.call("sql", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert house.bench.ran == []


def test_with_json_an_error_is_a_document_too(house) -> None:
    result = house.call("sql", "-d", "flights", "select 1", "--json", "--format", "csv")
    assert result.exit_code == 2
    assert result.stderr == ""
    error = json.loads(result.stdout)
    assert error["exit"] == 2
    assert error["error"]["kind"] == "UsageError"
    assert "-o FILE" in error["error"]["message"]


def test_secrets_never_show(house) -> None:
    outputs = [
        house.call("sql", "-d", "flights", "select * from forbidden"),
        house.call("sql", "-d", "flights", "select 1"),
    ]
    assert all("topsecret" not in result.output for result in outputs)
