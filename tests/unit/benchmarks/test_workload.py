"""The work of the job benchmarks is the same for every peer and goes round all argument sets."""

from __future__ import annotations

from benchmarks.peers.sandpool_peer import FLIGHTS_TABLES, POLICY
from benchmarks.verdict import FRESH, QUERIES
from benchmarks.workload import ARGUMENTS, QUERY, QUERY_PSYCOPG, calls
from workers.sql.policy import Catalog, CatalogColumn, CatalogTable, judge, load_policy


def test_there_are_180_different_argument_sets() -> None:
    assert len(set(ARGUMENTS)) == len(ARGUMENTS) == 180


def test_calls_are_numbered_and_use_every_argument_set_equally_often() -> None:
    work = calls(360)
    assert [call.number for call in work] == list(range(360))
    assert sorted(call.arguments for call in work) == sorted([*ARGUMENTS, *ARGUMENTS])


def test_both_placeholder_styles_are_the_same_query() -> None:
    rebuilt = QUERY_PSYCOPG
    for number in (1, 2, 3):
        rebuilt = rebuilt.replace("%s", f"${number}", 1)
    assert rebuilt == QUERY


def test_the_policy_of_the_benchmark_allows_its_query_and_no_other_table() -> None:
    columns = tuple(CatalogColumn(name, kind) for name, kind in (
        ("carrier", "text"), ("arr_delay", "smallint"), ("origin", "text"), ("month", "smallint"), ("day", "smallint")
    ))  # fmt: skip
    tables = tuple(CatalogTable(schema="public", name=name, columns=columns) for name in ("flights", "secrets"))
    policy = load_policy(POLICY.format(tables=list(FLIGHTS_TABLES)))
    catalog = Catalog(tables=tables)
    assert judge(QUERY, "postgres", policy, catalog, "bench").allowed
    assert not judge(QUERY.replace("flights", "secrets"), "postgres", policy, catalog, "bench").allowed


def test_every_text_of_the_verdict_benchmark_can_be_made_new() -> None:
    assert all(text.replace(FRESH, "1") != text for text in QUERIES.values())
