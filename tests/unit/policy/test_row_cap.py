"""`max_rows` caps the result whatever the text says, and changes neither rows nor order below the cap."""

from __future__ import annotations

import pytest

from workers.sql.policy import judge, load_policy

POLICY = load_policy('tables = "all"\nmax_rows = 100')


@pytest.mark.parametrize(
    ("limit", "printed"),
    [
        ("", "LIMIT 100"),
        ("LIMIT 5", "LIMIT 5"),
        ("LIMIT 0", "LIMIT 0"),
        ("LIMIT 100", "LIMIT 100"),
        ("LIMIT 101", "LIMIT 100"),
        ("LIMIT ALL", "LIMIT 100"),
        ("LIMIT NULL", "LIMIT 100"),
        ("LIMIT 5 OFFSET 7", "LIMIT 5 OFFSET 7"),
        ("OFFSET 7", "LIMIT 100 OFFSET 7"),
        ("FETCH FIRST ROW ONLY", "LIMIT 1"),
        ("FETCH NEXT 3 ROWS ONLY", "LIMIT 3"),
        ("LIMIT '5000'", "LIMIT LEAST('5000', 100::bigint)"),
        ("LIMIT 2e3", "LIMIT LEAST(2e3, 100::bigint)"),
        ("LIMIT 1 + 2", "LIMIT LEAST(1 + 2, 100::bigint)"),
        ("LIMIT $1", "LIMIT LEAST($1, 100::bigint)"),
        ("LIMIT -1", "LIMIT LEAST(-1, 100::bigint)"),
        ("LIMIT (SELECT 9)", "LIMIT LEAST((SELECT 9), 100::bigint)"),
        ("LIMIT CAST('9' AS int)", "LIMIT LEAST('9'::int, 100::bigint)"),
    ],
)
def test_every_form_of_limit_in_postgres_ends_at_the_cap(limit: str, printed: str) -> None:
    text = judge(f"SELECT g FROM generate_series(1, 9) g ORDER BY g {limit}", "postgres", POLICY, None, "").sql
    assert text == f"SELECT g FROM generate_series(1, 9) g ORDER BY g {printed}"


def test_ties_are_capped_from_outside() -> None:
    text = judge("SELECT 1 AS a ORDER BY a FETCH FIRST 5 ROWS WITH TIES", "postgres", POLICY, None, "").sql
    assert text.startswith("SELECT * FROM (SELECT 1 AS a ORDER BY a FETCH FIRST 5 ROWS WITH TIES) capped LIMIT 100")


def test_the_limit_of_one_arm_is_not_the_limit_of_the_union() -> None:
    text = judge("(SELECT 1 LIMIT 5) UNION ALL (SELECT 2 LIMIT 500)", "postgres", POLICY, None, "").sql
    assert text.endswith("LIMIT 100")
    assert "LIMIT 500" in text


def test_a_reader_may_ask_for_one_row_more_to_know_whether_there_was_more() -> None:
    assert judge("SELECT 1", "postgres", POLICY, None, "", headroom_rows=1).sql == "SELECT 1 LIMIT 101"


@pytest.mark.parametrize("limit", ["", "LIMIT 5000", "LIMIT 50%", "LIMIT (SELECT 5000)", "LIMIT NULL", "OFFSET 0"])
def test_every_form_of_limit_in_duckdb_ends_at_the_cap(limit: str) -> None:
    text = judge(f"SELECT * FROM range(1000) {limit}", "duckdb", POLICY, None, "").sql
    assert text.rstrip().endswith(("LIMIT 100", "LIMIT 100 OFFSET 0")), text
