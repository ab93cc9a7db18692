"""Transactions, settings, cursors and COPY of sessions: what the broker does itself, answers, forwards or refuses."""

from __future__ import annotations

import msgspec
import pytest

from tests.support import policy_corpus as corpus
from workers.sql.policy import load_policy
from workers.sql.policy.catalog import CatalogColumn
from workers.sql.policy.rules import RULES
from workers.sql.policy.session import (
    Answer,
    Forward,
    Own,
    Refuse,
    SessionFacts,
    SessionVerdict,
    Several,
    begin_sql,
    judge_session,
    judge_startup,
    local_settings_sql,
)

WRITERS = load_policy(
    """
    mode = "writes"
    tables = ["orders", "products"]
    writes = [{table = "products", kinds = ["insert"]}]
    """
)
CATALOG = msgspec.structs.replace(
    corpus.catalog("postgres"),
    tables=tuple(
        msgspec.structs.replace(table, columns=tuple(CatalogColumn(c.name, c.type or "text") for c in table.columns))
        for table in corpus.catalog("postgres").tables
    ),
)
"""As a server tells it: a file of DDL leaves the types of a view's columns open."""


def ask(text: str, *, protocol: str = "simple", writes: bool = False) -> SessionVerdict:
    policy = WRITERS if writes else corpus.restricted("postgres")
    facts = SessionFacts(protocol, writes)  # type: ignore[arg-type]
    return judge_session(text, facts, policy, CATALOG, corpus.TENANT)


@pytest.mark.parametrize("text", ["", " ", ";", "-- nothing", "/* nothing */ ;;"])
def test_an_empty_query_is_answered_without_a_tag(text: str) -> None:
    assert ask(text) == Answer((), (), "")


@pytest.mark.parametrize(
    ("text", "verb", "sql"),
    [
        ("begin", "begin", "BEGIN"),
        ("BEGIN; -- go", "begin", "BEGIN"),
        ("start transaction read only", "begin", "START TRANSACTION READ ONLY"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "begin", "BEGIN ISOLATION LEVEL SERIALIZABLE"),
        ("commit", "commit", "COMMIT"),
        ("END", "commit", "COMMIT"),
        ("abort", "rollback", "ROLLBACK"),
        ("ROLLBACK AND CHAIN", "rollback", "ROLLBACK AND CHAIN"),
        ('SAVEPOINT "a B"', "savepoint", 'SAVEPOINT "a B"'),
        ("RELEASE a", "release", "RELEASE"),
        ("ROLLBACK TO a", "rollback-to", "ROLLBACK TO SAVEPOINT a"),
    ],
)
def test_transaction_control_is_the_brokers_own(text: str, verb: str, sql: str) -> None:
    verdict = ask(text)
    assert isinstance(verdict, Own)
    assert verdict.verb == verb
    assert verdict.sql.startswith(sql)


def test_the_modes_of_begin_come_as_data() -> None:
    verdict = ask("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE")
    assert isinstance(verdict, Own)
    assert (verdict.isolation, verdict.read_only, verdict.deferrable) == ("repeatable read", True, False)
    assert begin_sql(verdict, {}, writes=True) == "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


def test_what_begin_leaves_open_comes_from_the_sessions_settings() -> None:
    settings = {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"}
    assert begin_sql(None, settings, writes=False) == "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"
    assert begin_sql(None, {}, writes=True) == "BEGIN READ WRITE"
    assert begin_sql(None, {"default_transaction_read_only": "on"}, writes=True) == "BEGIN READ ONLY"


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("SET DateStyle = ISO, MDY", ("datestyle", "iso, mdy")),
        ("SET TIME ZONE 'europe/berlin'", ("timezone", "Europe/Berlin")),
        ("set timezone to 'UTC'", ("timezone", "UTC")),
        ("SET TIME ZONE -3", ("timezone", "-3")),
        ("SET extra_float_digits = 3", ("extra_float_digits", "3")),
        ("SET bytea_output TO escape", ("bytea_output", "escape")),
        ("SET statement_timeout = '2min'", ("statement_timeout", "120000")),
        ("SET statement_timeout TO 0", ("statement_timeout", "0")),
        ("SET application_name = 'it''s me'", ("application_name", "it's me")),
        ("SET default_transaction_isolation TO 'serializable'", ("default_transaction_isolation", "serializable")),
    ],
)
def test_a_harmless_setting_is_kept_for_the_session_in_its_plain_form(text: str, setting: tuple[str, str]) -> None:
    assert ask(text) == Own("set", "SET", settings=(setting,))
    assert ask(text.replace("SET", "SET LOCAL", 1).replace("set t", "set local t")) in (
        Own("set", "SET", settings=(setting,), is_local=True),
        ask(text),
    )


@pytest.mark.parametrize(
    "text",
    [
        "SET client_encoding = 'UTF8'", "SET NAMES 'utf-8'", "SET standard_conforming_strings = on", "SET jit = off",
        "SET search_path TO public", 'SET search_path = "$user", public', "SET work_mem = '1GB'", "SET ROLE NONE",
        "SET lock_timeout = 0", "RESET ROLE", "SET SESSION AUTHORIZATION DEFAULT", "UNLISTEN *", "DISCARD PLANS",
    ],
)  # fmt: skip
def test_what_changes_nothing_here_is_answered(text: str) -> None:
    verdict = ask(text)
    assert isinstance(verdict, Answer)
    assert verdict.tag in ("SET", "RESET", "UNLISTEN", "DISCARD PLANS")


@pytest.mark.parametrize(
    ("text", "sqlstate", "rule"),
    [
        ("BEGIN READ WRITE", "25006", "session.read-only"),
        ("SET TRANSACTION READ WRITE", "25006", "session.read-only"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "25006", "session.read-only"),
        ("SET default_transaction_read_only = off", "25006", "session.read-only"),
        ("SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", "0A000", "session.feature"),
        ("PREPARE TRANSACTION 'x'", "0A000", "session.feature"),
        ("COMMIT PREPARED 'x'", "0A000", "session.feature"),
        ("SET ROLE postgres", "42501", "session.identity"),
        ("SET SESSION AUTHORIZATION postgres", "42501", "session.identity"),
        ("SET LOCAL role = 'postgres'", "42501", "session.identity"),
        ('SET "Role" = postgres', "42501", "session.identity"),
        ("SET session_replication_role = replica", "42501", "session.setting"),
        ("SET search_path = pg_temp, secret", "42501", "session.setting"),
        ("SET local_preload_libraries = 'x'", "42501", "session.setting"),
        ("SET app.tenant = '2'", "42501", "session.setting"),
        ("SET jit FROM CURRENT", "42501", "session.setting"),
        ("SET client_encoding = 'LATIN1'", "22023", "session.value"),
        ("SET standard_conforming_strings = off", "22023", "session.value"),
        ("SET timezone = '../../etc/passwd'", "22023", "session.value"),
        ("SET DateStyle = 'ISO; DROP TABLE x'", "22023", "session.value"),
        ("SET statement_timeout = '-1'", "22023", "session.value"),
        ("SHOW data_directory", "42501", "session.setting"),
        ("SHOW ALL", "42501", "session.setting"),
        ("SHOW app.tenant", "42501", "session.setting"),
        ("LISTEN x", "0A000", "session.feature"),
        ("NOTIFY x, 'y'", "0A000", "session.feature"),
        ("PREPARE p AS SELECT 1", "0A000", "session.feature"),
        ("EXECUTE p", "0A000", "session.feature"),
        ("EXPLAIN SELECT 1", "0A000", "session.feature"),
        ("EXPLAIN (ANALYZE) SELECT * FROM orders", "0A000", "session.feature"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "0A000", "session.feature"),
        ("DO $$ BEGIN NULL; END $$", "42501", "statement.kind"),
        ("CALL p()", "42501", "statement.kind"),
        ("LOAD 'x'", "42501", "statement.kind"),
        ("LOCK TABLE orders", "42501", "statement.locking"),
        ("SELECT 1; SELECT 2", "42601", "statement.multiple"),
        ("SET jit = off; DROP TABLE orders", "42601", "statement.multiple"),
        ("RESET ALL; COMMIT", "42601", "statement.multiple"),
        ("COPY orders TO '/tmp/x'", "42501", "statement.kind"),
        ("COPY orders TO PROGRAM 'id'", "42501", "statement.kind"),
        ("COPY products FROM PROGRAM 'id'", "42501", "statement.kind"),
        ("COPY (SELECT 1) TO PROGRAM 'id'", "42501", "statement.kind"),
        ("COPY customers TO STDOUT", "42501", "column.star"),
        ("COPY customers (email) TO STDOUT", "42501", "column.denied"),
        ("COPY secrets TO STDOUT", "42P01", "table.unlisted"),
        ("COPY (SELECT * FROM secrets) TO STDOUT", "42P01", "table.unlisted"),
        ("COPY orders TO STDOUT (ENCODING 'LATIN1')", "22023", "session.value"),
        ("COPY (DELETE FROM orders RETURNING *) TO STDOUT", "42501", "write.unsupported"),
        ("COPY products FROM STDIN", "42501", "write.not-allowed"),
        ("DECLARE c CURSOR FOR SELECT * FROM secrets", "42P01", "table.unlisted"),
        ("DECLARE c CURSOR FOR SELECT pg_sleep(9)", "42501", "function.unlisted"),
        ("INSERT INTO products VALUES (1)", "25006", "session.read-only"),
        ("CREATE TABLE x (a int)", "42501", "statement.kind"),
        ("SELECT FROM WHERE", "42601", "statement.syntax"),
        ("SELECT nothing FROM orders", "42703", "column.unknown"),
        ("SELECT * FROM orders FOR UPDATE", "42501", "statement.locking"),
    ],
)  # fmt: skip
def test_what_reaches_beyond_the_session_is_refused_with_its_sqlstate(text: str, sqlstate: str, rule: str) -> None:
    verdict = ask(text)
    assert isinstance(verdict, Refuse), verdict
    assert (verdict.sqlstate, verdict.rule) == (sqlstate, rule)
    assert rule in RULES
    assert 10 < len(verdict.message) < 700


def test_the_reset_string_of_asyncpg_is_done_in_order() -> None:
    text = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
    verdict = ask(text)
    assert isinstance(verdict, Several)
    assert [part.tag for part in verdict.parts if not isinstance(part, Forward)] == [
        "SELECT 1",
        "CLOSE CURSOR ALL",
        "UNLISTEN",
        "RESET",
    ]
    assert isinstance(ask(text, protocol="extended"), Refuse)


@pytest.mark.parametrize(
    ("text", "kind", "printed"),
    [
        (
            "COPY orders (id) TO STDOUT (FORMAT binary)",
            "copy-out",
            "COPY (SELECT id FROM (SELECT * FROM public.orders WHERE orders.tenant = 'acme') orders LIMIT 500)",
        ),
        ("COPY products TO STDOUT CSV HEADER", "copy-out", "COPY (SELECT * FROM public.products LIMIT 500) TO STDOUT"),
        (
            "DECLARE c NO SCROLL CURSOR FOR SELECT id FROM products",
            "declare",
            "DECLARE c NO SCROLL CURSOR FOR SELECT id FROM public.products LIMIT 500",
        ),
        ("FETCH FORWARD 100 FROM c", "fetch", "FETCH FORWARD 100 c"),
        ("MOVE ALL IN c", "move", "MOVE ALL c"),
        ('CLOSE "c 1"', "close", 'CLOSE "c 1"'),
    ],
)
def test_cursors_and_copies_carry_the_checked_query(text: str, kind: str, printed: str) -> None:
    verdict = ask(text)
    assert isinstance(verdict, Forward)
    assert verdict.kind == kind
    assert verdict.sql.startswith(printed)


def test_a_copy_into_a_table_needs_insert_on_it_in_the_policy() -> None:
    verdict = ask("COPY products (id, name) FROM STDIN (FORMAT csv)", writes=True)
    assert isinstance(verdict, Forward)
    assert verdict.sql.startswith("COPY public.products(id, name) FROM STDIN")
    assert isinstance(ask("COPY orders FROM STDIN", writes=True), Refuse)
    assert isinstance(ask("COPY products FROM STDIN WHERE id > 1", writes=True), Refuse)
    assert isinstance(ask("COPY products FROM '/etc/passwd'", writes=True), Refuse)


def test_a_session_with_writes_may_open_read_write_transactions() -> None:
    verdict = ask("BEGIN READ WRITE", writes=True)
    assert isinstance(verdict, Own)
    assert begin_sql(verdict, {}, writes=True) == "BEGIN READ WRITE"
    assert begin_sql(verdict, {}, writes=False) == "BEGIN READ ONLY"


def test_kept_settings_are_put_on_a_server_connection_as_quoted_constants() -> None:
    kept = {"timezone": "Europe/Berlin", "application_name": "x", "statement_timeout": "5", "xmloption": "a'b"}
    assert local_settings_sql(kept) == ("SET LOCAL timezone TO 'Europe/Berlin'", "SET LOCAL xmloption TO 'a''b'")


def test_a_startup_message_keeps_what_set_would_keep() -> None:
    policy, catalog = corpus.restricted("postgres"), CATALOG
    kept = judge_startup(
        {
            "user": "u",
            "database": "d",
            "application_name": "psql",
            "client_encoding": "UTF8",
            "options": r"-c statement_timeout=5s --extra-float-digits=2 -cDateStyle=ISO,\ DMY -c geqo=off",
        },
        policy,
        catalog,
        writes=False,
    )
    assert kept == {
        "application_name": "psql",
        "statement_timeout": "5000",
        "extra_float_digits": "2",
        "datestyle": "iso, dmy",
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"options": "-c role=postgres"},
        {"options": "-c search_path=secret"},
        {"options": "-c default_transaction_read_only=off"},
        {"options": "-Fc"},
        {"replication": "database"},
        {"session_authorization": "postgres"},
        {"client_encoding": "SQL_ASCII"},
        {f"p{number}": "" for number in range(100)},
    ],
)
def test_a_startup_message_cannot_set_what_set_may_not(parameters: dict[str, str]) -> None:
    verdict = judge_startup(parameters, corpus.restricted("postgres"), CATALOG, writes=False)
    assert isinstance(verdict, Refuse)
