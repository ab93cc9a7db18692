"""A pool refuses a role that may do too much, naming what; the role that `harden` makes passes and holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, statement
from workers.errors import DatabaseRefusesRole, DatabaseUnavailable, WorkerError
from workers.sql.policy.catalog import CatalogColumn, CatalogType
from workers.sql.pool import Pool, PoolSpec
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "roles"


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(
        "CREATE TABLE public_table (id int, note text); CREATE TABLE people (id int, name text, ssn text); "
        "CREATE TYPE spot AS (x int, y numeric(3, 1)); "
        "CREATE SEQUENCE counter; CREATE ROLE group_role; INSERT INTO people VALUES (1, 'Ann', '123-45-6789')",
        DATABASE,
    )
    yield make_role(postgres, DATABASE, {"public.public_table": (), "public.people": ("id", "name")}, role="hardened")
    postgres.drop_database(DATABASE)


async def _refusal(dsn: str, **fields: object) -> str:
    pool = Pool(PoolSpec(database="test", dsn=dsn, **fields), {})  # type: ignore[arg-type]
    try:
        with pytest.raises(WorkerError) as caught:
            await pool.start()
    finally:
        await pool.close()
    assert isinstance(caught.value, DatabaseRefusesRole)
    assert dsn not in caught.value.message
    return caught.value.message


async def test_the_hardened_role_is_accepted_and_reads_its_columns_only(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        fine = await pool.run(statement("SELECT id, name FROM people"))
        hidden = await pool.run(statement("SELECT p FROM people AS p"))
        catalog = await pool.catalog()
    assert read_inline(fine).to_pylist() == [{"id": 1, "name": "Ann"}]
    assert hidden.error is not None
    assert hidden.error.sqlstate == "42501"
    people = catalog.by_name["public", "people"]
    assert [(c.name, c.type) for c in people.columns] == [("id", "integer"), ("name", "text")]
    assert catalog.search_path == ("public",)
    assert catalog.composites == (
        CatalogType("spot", (CatalogColumn("x", "integer"), CatalogColumn("y", "numeric(3,1)"))),
    )


@pytest.mark.parametrize(
    ("grant", "revoke", "named"),
    [
        ("ALTER ROLE hardened SUPERUSER", "ALTER ROLE hardened NOSUPERUSER", "superuser"),
        ("ALTER ROLE hardened CREATEDB", "ALTER ROLE hardened NOCREATEDB", "NOCREATEDB"),
        ("ALTER ROLE hardened CREATEROLE", "ALTER ROLE hardened NOCREATEROLE", "NOCREATEROLE"),
        ("ALTER ROLE hardened REPLICATION", "ALTER ROLE hardened NOREPLICATION", "NOREPLICATION"),
        ("ALTER ROLE hardened BYPASSRLS", "ALTER ROLE hardened NOBYPASSRLS", "NOBYPASSRLS"),
        ("GRANT group_role TO hardened", "REVOKE group_role FROM hardened", 'REVOKE "group_role" FROM hardened'),
        ("GRANT pg_read_server_files TO hardened", "REVOKE pg_read_server_files FROM hardened", "pg_read_server_files"),
        ("GRANT CREATE ON SCHEMA public TO hardened", "REVOKE CREATE ON SCHEMA public FROM hardened", "schema public"),
        ("GRANT TEMP ON DATABASE roles TO PUBLIC", "REVOKE TEMP ON DATABASE roles FROM PUBLIC", "REVOKE TEMPORARY"),
        (
            "GRANT INSERT ON public_table TO hardened",
            "REVOKE INSERT ON public_table FROM hardened",
            "REVOKE INSERT ON public.public_table",
        ),
        (
            "GRANT UPDATE (note) ON public_table TO PUBLIC",
            "REVOKE UPDATE (note) ON public_table FROM PUBLIC",
            "UPDATE on public.public_table",
        ),
        (
            "GRANT TRUNCATE ON people TO hardened",
            "REVOKE TRUNCATE ON people FROM hardened",
            "TRUNCATE on public.people",
        ),
        ("GRANT USAGE ON SEQUENCE counter TO hardened", "REVOKE ALL ON SEQUENCE counter FROM hardened", "counter"),
        (
            "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO hardened",
            "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM hardened",
            "pg_read_file(text)",
        ),
        ("ALTER TABLE people OWNER TO hardened", "REASSIGN OWNED BY hardened TO sandpool_admin", "owns people"),
    ],
)
async def test_a_role_with_one_grant_too_many_is_refused_by_its_name(
    grant: str, revoke: str, named: str, postgres: PostgresServer, dsn: str
) -> None:
    await asyncio.to_thread(postgres.execute, grant, DATABASE)
    try:
        message = await _refusal(dsn)
    finally:
        await asyncio.to_thread(postgres.execute, revoke, DATABASE)
        await asyncio.to_thread(postgres.execute, "GRANT SELECT (id, name) ON people TO hardened", DATABASE)
    assert named in message
    assert "fix:" in message


async def test_a_writing_role_may_write_only_what_is_listed(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    listed = {"public.public_table": ("INSERT",)}
    writer = await asyncio.to_thread(make_role, postgres, DATABASE, {"public.people": ("id",)}, listed, "one_writer")
    async with open_pool(writer, tmp_volume, writes=True, write_tables=listed) as pool:
        assert pool.status().state == "open"
    assert "INSERT on public.public_table" in await _refusal(writer, writes=True, write_tables={})
    assert "INSERT on public.sandpool_jobs" in await _refusal(writer)


async def test_a_wrong_password_and_a_missing_database_are_refusals_without_secrets(dsn: str) -> None:
    user, _, rest = dsn.partition("@")
    assert "role" in await _refusal(user + "x@" + rest)
    assert "role" in await _refusal(dsn.replace("/roles", "/nowhere"))


async def test_a_server_that_is_not_there_is_unavailable(postgres: PostgresServer) -> None:
    pool = Pool(PoolSpec(database="test", dsn="postgresql://u:secret-word@127.0.0.1:1/x", connect_timeout_s=1.0), {})
    with pytest.raises(DatabaseUnavailable) as caught:
        await pool.start()
    assert caught.value.retry
    assert "secret-word" not in repr(caught.value)
    await pool.close()


ATTACKS = [
    "SELECT pg_sleep(1)",
    "SELECT (0.1).pg_sleep",
    "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SELECT * FROM ts_stat('SELECT ''a''::tsvector')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')",
    "SELECT table_to_xml('people', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "SELECT pg_export_snapshot()",
    "SELECT txid_current()",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = current_user",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY people TO '/tmp/x'",
    "CREATE TEMP TABLE t (a int)",
    "CREATE TABLE t (a int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "INSERT INTO public_table VALUES (1, 'x')",
    "SELECT nextval('counter')",
    "SELECT * FROM people FOR UPDATE",
    "SELECT ssn FROM people",
    "SELECT p::text FROM people AS p",
    "SELECT count(p) FROM people AS p",
    "SELECT row_to_json(p) FROM people AS p",
    "SELECT x FROM people AS p(a, b, x)",
    "SELECT rolpassword FROM pg_authid",
    "SET ROLE group_role",
    "ALTER ROLE hardened SUPERUSER",
    "SELECT set_config('role', 'group_role', false)",
    "SELECT set_config('temp_file_limit', '-1', false)",
]


@pytest.mark.parametrize("sql", ATTACKS)
async def test_the_server_itself_refuses(sql: str, dsn: str, tmp_volume: VolumeSpec) -> None:
    """No policy stands before these: role, grants and transaction must hold alone."""
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement(sql, timeout_s=5.0))
        after = await pool.run(statement("SELECT 1"))
    assert attempt.ending is Ending.Failed, sql
    assert "123-45-6789" not in repr(attempt)
    assert after.ending is Ending.Succeeded
