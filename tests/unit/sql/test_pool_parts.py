"""The small pure parts of a pool: its description, plans of the server, limits, catalog rows, what `harden` prints."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.sql.catalog import build_tables
from workers.sql.connection import libpq_uri
from workers.sql.estimate import read_plan
from workers.sql.harden import REVOKED_FUNCTIONS, Hardening, harden, literal, qualified, quote
from workers.sql.ledger import LEDGER
from workers.sql.results import Ceiling
from workers.sql.role import may_write
from workers.sql.rows import MAX_PIECE_ROWS, PIECE_BYTES, next_limit
from workers.sql.spec import PoolSpec, name_job
from workers.sql.write import affected_rows

DSN = "postgresql://agent:pa55word@db.internal:5432/app"


def test_a_dsn_shows_nowhere() -> None:
    spec = PoolSpec(database="app", dsn=DSN)
    shown = [repr(spec), str(spec), f"{spec}", f"{spec!r}", repr([spec]), repr(spec.__rich_repr__())]
    assert not any("pa55word" in text or "db.internal" in text for text in shown)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_settings_of_a_database_override_the_pinned_ones() -> None:
    spec = PoolSpec(database="app", dsn=DSN, settings={"search_path": "sales, public", "work_mem": "8MB"})
    assert spec.server_settings["search_path"] == "sales, public"
    assert spec.server_settings["TimeZone"] == "UTC"
    assert "-c%20search_path%3Dsales%2C%5C%20public" in libpq_uri(spec)
    assert libpq_uri(msgspec.structs.replace(spec, dsn=DSN + "?sslmode=require")).count("?") == 1


def _node(**fields: Any) -> list[dict[str, Any]]:
    return [{"Plan": {"Total Cost": 12.5, "Plan Rows": 3, "Plan Width": 8, **fields}}]


def test_a_plan_is_parallel_when_any_node_plans_workers() -> None:
    gather = {"Node Type": "Gather", "Workers Planned": 2, "Plans": []}
    assert read_plan(_node()).is_parallel is False
    deep = read_plan(_node(Plans=[{"Plans": [gather]}]))
    assert (deep.is_parallel, deep.cost, deep.rows, deep.width_bytes) == (True, 12.5, 3.0, 8.0)


@settings(deadline=None)
@given(st.lists(st.lists(st.text(max_size=20), max_size=8), max_size=6), st.integers(0, 30), st.integers(1, 2000))
def test_a_ceiling_lets_through_the_leading_rows_within_both_limits(
    batches: list[list[str]], max_rows: int, max_bytes: int
) -> None:
    ceiling = Ceiling(max_rows, max_bytes)
    kept: list[str] = []
    size = 0
    for values in batches:
        batch = ceiling.cut(pa.RecordBatch.from_pydict({"v": pa.array(values, pa.utf8())}))
        kept += batch["v"].to_pylist()
        size += batch.nbytes if batch.num_rows else 0
        if ceiling.reached:
            break
    every = [value for values in batches for value in values]
    assert kept == every[: len(kept)]
    assert len(kept) <= max_rows
    assert size <= max_bytes
    assert ceiling.reached == (len(kept) < len(every))


@given(st.integers(1, MAX_PIECE_ROWS), st.integers(0, 2**40))
def test_pieces_shrink_when_rows_are_wide_and_grow_when_they_are_not(limit: int, size_bytes: int) -> None:
    following = next_limit(limit, size_bytes)
    assert 1 <= following <= MAX_PIECE_ROWS
    assert (following <= limit) if size_bytes > PIECE_BYTES else (following >= limit)


@pytest.mark.parametrize(
    ("tag", "returned", "expected"),
    [
        ("INSERT 0 5", None, 5),
        ("UPDATE 0", None, 0),
        ("MERGE 3", None, 3),
        ("INSERT 0 1", 4000, 4000),
        ("SELECT 7", 7, None),
        ("", None, None),
    ],
)
def test_affected_rows_come_from_the_command_tag(tag: str, returned: int | None, expected: int | None) -> None:
    assert affected_rows(tag, returned) == expected


def test_a_primary_key_counts_only_when_all_of_it_is_visible() -> None:
    def row(name: str, column: str, position: int | None, kind: str = "r") -> dict[str, Any]:
        return {
            "schema": "s", "name": name, "kind": kind, "column": column, "type": "integer", "key_position": position
        }  # fmt: skip

    rows = [row("whole", "b", 2), row("whole", "a", 1), row("part", "a", 1), row("seen", "x", None, "v")]
    whole, part, seen = build_tables(rows, {("s", "whole"): 2, ("s", "part"): 2})
    assert whole.primary_key == ("a", "b")
    assert part.primary_key == ()
    assert (seen.kind, whole.kind) == ("view", "table")


def test_a_role_may_write_what_is_listed_and_the_ledger() -> None:
    spec = PoolSpec(database="app", dsn=DSN, writes=True, write_tables={"s.t": ("INSERT",)})
    assert may_write(spec, "s.t", "INSERT")
    assert may_write(spec, LEDGER, "UPDATE")
    assert not may_write(spec, LEDGER, "DELETE")
    assert not may_write(spec, "s.t", "UPDATE")
    assert not may_write(msgspec.structs.replace(spec, writes=False), "s.t", "INSERT")


@given(st.text(min_size=1).filter(lambda name: "$" not in name and "\x00" not in name))
def test_names_and_constants_cannot_leave_their_quotes(name: str) -> None:
    assert quote(name)[1:-1].replace('""', "").count('"') == 0
    assert literal(name)[1:-1].replace("''", "").count("'") == 0


@pytest.mark.parametrize("name", ["", "a\x00b", "x$sandpool$y"])
def test_names_that_could_end_a_block_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        quote(name)


def test_what_harden_prints_grants_columns_and_revokes_the_rest() -> None:
    wanted = Hardening(
        role="agent",
        database="app",
        tables={"sales.orders": ("id", "total"), "public.places": ()},
        writes={"sales.orders": ("INSERT",)},
    )
    text = harden(wanted)
    for expected in (
        'GRANT SELECT ("id", "total") ON "sales"."orders" TO "agent";',
        'GRANT SELECT ON "public"."places" TO "agent";',
        'GRANT INSERT ON "sales"."orders" TO "agent";',
        "CREATE TABLE IF NOT EXISTS public.sandpool_jobs",
        'REVOKE CREATE, TEMPORARY ON DATABASE "app" FROM PUBLIC, "agent";',
        "ALTER ROLE \"agent\" SET temp_file_limit = '1024MB';",
    ):
        assert expected in text
    assert all(f"'{name}'" in text for name in REVOKED_FUNCTIONS)
    assert "sandpool_jobs" not in harden(msgspec.structs.replace(wanted, writes={}))


@pytest.mark.parametrize("writes", [{"s.t": ("TRUNCATE",)}, {"s.t": ()}])
def test_harden_grants_no_other_write(writes: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="INSERT, UPDATE, DELETE"):
        harden(Hardening(role="agent", database="app", tables={}, writes=writes))


def test_a_table_is_named_with_its_schema() -> None:
    assert qualified("a.b") == '"a"."b"'
    with pytest.raises(ValueError, match=r"schema\.table"):
        qualified("b")


@pytest.mark.parametrize("job_id", ["", "x'; DROP TABLE t; --", "a b", "x" * 65, "naïve", "a\n"])
def test_an_id_that_is_more_than_a_name_never_reaches_the_server(job_id: str) -> None:
    assert name_job(job_id) == ""
    assert name_job("report-7") == "SET LOCAL application_name = 'sandpool:report-7'"
