"""The reviewed function lists agree with the catalogs of the engines at hand."""

from __future__ import annotations

import sqlite3

from cluster.local.postgres import PostgresServer
from tests.integration import duckdb_function_review, policy_function_review
from tests.integration.sqlite_function_list import FUNCTIONS as SQLITE_FUNCTIONS
from workers.sql.policy.functions import functions, operators


def test_the_postgres_list_is_what_the_review_admits_on_this_server(postgres: PostgresServer) -> None:
    rows = [
        line.split("|") for line in postgres.execute(policy_function_review.QUERY).splitlines() if line.count("|") == 6
    ]
    admitted = policy_function_review.review(rows)
    listed = functions("postgres")
    assert len(admitted) > 1200
    assert set(admitted) - set(listed) == set(), "new in this server: review them, then write the file again"
    refused = {row[0] for row in rows} - set(admitted)
    assert set(listed) & refused == set(), "listed, but the review refuses them"
    assert {name: outs for name, outs in admitted.items() if outs} == {
        name: ",".join(listed[name]) for name in admitted if listed[name]
    }


def test_the_postgres_operators_are_all_built_in(postgres: PostgresServer) -> None:
    known = set(postgres.execute("SELECT DISTINCT oprname FROM pg_operator WHERE oid < 16384").split())
    assert operators("postgres") == known


def test_the_duckdb_list_is_what_the_review_admits() -> None:
    admitted = duckdb_function_review.review(duckdb_function_review.catalog_rows())
    assert {name: ",".join(outs) for name, outs in functions("duckdb").items()} == admitted


def test_the_sqlite_list_is_the_hand_made_one_and_holds_nothing_with_effects() -> None:
    listed = set(functions("sqlite"))
    assert listed == set(SQLITE_FUNCTIONS)
    known = {name for (name,) in sqlite3.connect(":memory:").execute("SELECT name FROM pragma_function_list")}
    assert (
        listed & {"load_extension", "randomblob", "zeroblob", "sqlite_version", "changes", "last_insert_rowid"} == set()
    )
    assert len(listed & known) > 60
