"""The printed text returns exactly what the original returns: on the same data, and on a database that holds only the
permitted rows with their masks applied. Real engines, every honest statement of the corpora."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import asyncpg
import duckdb
import pytest

from cluster.local.postgres import PostgresServer
from tests.support import policy_corpus as corpus
from workers.sql.policy import Dialect, Policy, judge

Result = tuple[list[str], list[str]]
MAX_ROWS = 500
PERMITTED = """
    DELETE FROM customers WHERE tenant <> 'acme';
    DELETE FROM orders WHERE tenant <> 'acme';
"""
ANONYMOUS_RECORD = "SELECT e FROM events e WHERE e.id = 1"
"""A whole row comes back as an anonymous record: its values are the same, its type has no name any more."""


def compare(dialect: Dialect, policy: Policy, original: Result, text: str, run: Callable[[str], Result]) -> list[str]:
    verdict = judge(text, dialect, policy, corpus.catalog(dialect), corpus.TENANT)
    assert verdict.allowed, (verdict.rule, text)
    names, rows = run(verdict.sql)
    expected_names, expected_rows = original[0], original[1][:MAX_ROWS]
    # SQLite names a column of the framed text as the text spells it, and not as the table does.
    fold = str.lower if dialect == "sqlite" else str
    same_names = [*map(fold, names)] == [*map(fold, expected_names)]
    return (
        []
        if rows == expected_rows and same_names
        else [f"{text}\n  {verdict.sql}\n  {expected_rows[:3]}\n  {rows[:3]}"]
    )


def load(execute: Callable[[str], Any], dialect: Dialect) -> None:
    execute(corpus.text_of(f"{dialect}_schema.sql"))
    execute(corpus.text_of(f"{dialect}_data.sql"))


async def fetch(connection: asyncpg.Connection[Any], text: str) -> Result | str:
    try:
        statement = await connection.prepare(text)
        rows = await statement.fetch(*((1, "x") if "$2" in text else ()))
    except asyncpg.PostgresError as error:
        return type(error).__name__
    return [a.name for a in statement.get_attributes()], [repr(tuple(row.values())) for row in rows]


@pytest.mark.parametrize("is_restricted", [False, True], ids=["open", "restricted"])
async def test_postgres_returns_what_the_original_returns(postgres: PostgresServer, is_restricted: bool) -> None:
    full = await asyncpg.connect(postgres.create_database(f"policy_full_{is_restricted}".lower()))
    permitted = await asyncpg.connect(postgres.create_database(f"policy_permitted_{is_restricted}".lower()))
    try:
        for connection in (full, permitted):
            await connection.execute(corpus.text_of("postgres_schema.sql") + corpus.text_of("postgres_data.sql"))
            await connection.execute("SET timezone = 'UTC'")
        events = "DELETE FROM events WHERE tenant <> 'acme'; UPDATE customers SET name = left(name, 1)"
        await permitted.execute(PERMITTED + events)
        policy = corpus.restricted("postgres") if is_restricted else corpus.everything()
        wrong: list[str] = []
        for text in corpus.honest("postgres"):
            original = await fetch(permitted if is_restricted else full, text)
            verdict = judge(text, "postgres", policy, corpus.catalog("postgres"), corpus.TENANT)
            result = await fetch(full, verdict.sql)
            if not isinstance(original, str):
                original = (original[0], original[1][:MAX_ROWS])
            if result != original and not (is_restricted and text == ANONYMOUS_RECORD):
                wrong.append(f"{text}\n  {verdict.sql}\n  {str(original)[:300]}\n  {str(result)[:300]}")
        assert wrong == []
    finally:
        await full.close()
        await permitted.close()


@pytest.mark.parametrize("is_restricted", [False, True], ids=["open", "restricted"])
def test_duckdb_returns_what_the_original_returns(is_restricted: bool) -> None:
    # One thread: between equals (ties of mode(), rows without an order) many threads choose now this way, now that.
    full, permitted = (duckdb.connect(config={"threads": 1}) for _ in range(2))
    load(full.execute, "duckdb")
    load(permitted.execute, "duckdb")
    permitted.execute(PERMITTED + "UPDATE customers SET name = substr(name, 1, 1)")

    def run(engine: duckdb.DuckDBPyConnection, text: str) -> Result:
        cursor = engine.execute(text, [1] if "$1" in text else None)
        return [column[0] for column in cursor.description], [repr(row) for row in cursor.fetchall()]

    policy = corpus.restricted("duckdb") if is_restricted else corpus.everything()
    wrong: list[str] = []
    for text in corpus.honest("duckdb"):
        original = run(permitted if is_restricted else full, text)
        wrong += compare("duckdb", policy, original, text, lambda printed: run(full, printed))
    assert wrong == []


@pytest.mark.parametrize("is_restricted", [False, True], ids=["open", "restricted"])
def test_sqlite_returns_what_the_original_returns(is_restricted: bool) -> None:
    full, permitted = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    load(full.executescript, "sqlite")
    load(permitted.executescript, "sqlite")
    permitted.executescript(PERMITTED + "UPDATE customers SET name = substr(name, 1, 1)")

    def run(engine: sqlite3.Connection, text: str) -> Result:
        cursor = engine.execute(text, [1] if "?" in text else {"key": 1})
        return [column[0] for column in cursor.description], [repr(row) for row in cursor.fetchall()]

    policy = corpus.restricted("sqlite") if is_restricted else corpus.everything()
    wrong: list[str] = []
    for text in corpus.honest("sqlite"):
        original = run(permitted if is_restricted else full, text)
        wrong += compare("sqlite", policy, original, text, lambda printed: run(full, printed))
    assert wrong == []
