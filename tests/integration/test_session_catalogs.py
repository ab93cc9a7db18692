"""Sessions on a real server: nothing that the policy hides appears in any answer, to whatever tools or probes ask, and
what it shows appears as on a direct connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from cluster.local.postgres import PostgresServer
from tests.support import session_corpus as corpus
from tests.support.policy_corpus import text_of
from workers.sql.catalog import read_session_catalog
from workers.sql.policy import Catalog, Policy, load_policy
from workers.sql.policy.session import Forward, SessionFacts, Several, judge_session
from workers.sql.policy.session.relations import RELATIONS

ROLE = "watcher"
OPEN = load_policy('tables = "all"\nfunctions = ["public.half", "public.hush_function", "public.hush_trigger"]')
GRANTS = f"""
    CREATE ROLE hush_role; CREATE ROLE {ROLE} LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE session TO {ROLE};
    GRANT USAGE ON SCHEMA app, hush_schema TO {ROLE}; GRANT SELECT ON hush_table TO hush_role;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, app, hush_schema TO {ROLE};
"""
SEEN = ("trips", "carriers", "stops", "distance", "trips_carrier", "mood", "in miles", "trip_totals", "half")
"""What some statement of the tools must show."""


ALWAYS_HIDDEN = (
    "pg_toast", "hush_role", "hush_database", "hush_sequence", "hush_domain", "hush_statistics", "hush_watch",
    "postgres", "template", "'pg_",
)  # fmt: skip
"""Words of rows that no policy shows, beside other databases: roles, triggers, what no table uses."""
DIFFERENT_BY_DESIGN = (
    "pg_get_viewdef", "NOW()", "pg_settings", "pg_roles", "pg_rewrite", "nspowner", "relacl",
    "attrelid,\n    attname,\n",
)  # fmt: skip
"""Definitions of views, clocks, settings, roles, views over views, grants, system columns of tables."""
SHOWS_OWNERS = frozenset({"psql", "psql tab", "pgjdbc", "dbt", "tableau", "duckdb"})
"""Tools whose answers hold owners, grants or estimates, which sessions see differently: only rows are counted."""


class _Plain:
    """The part of a pool's session that reading the catalog needs."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def query(self, sql: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        return list(await self._connection.fetch(sql, *arguments, timeout=timeout_s))


class Database(NamedTuple):
    connection: asyncpg.Connection[Any]
    catalog: Catalog
    oids: dict[str, str]

    def oid_of(self, name: str) -> str:
        return self.oids.get(name, "1")

    def aimed(self, text: str) -> str:
        """A probing statement with the OIDs of this database in the place of its 16384 to 17000 and 16400."""
        hidden = [int(oid) for name, oid in self.oids.items() if corpus.HIDDEN in name]
        aims = {"16384": min(hidden), "17000": max(hidden), "16400": int(self.oids["hush_table"])}
        return re.sub("16384|17000|16400", lambda match: str(aims[match[0]]), text)

    def texts(self, text: str, policy: Policy, protocol: str = "simple", *, anew: bool = False) -> list[str]:
        """The texts that the server would get for this one; `anew`: what is visible is computed in each of them."""
        facts = SessionFacts(protocol)  # type: ignore[arg-type]
        catalog = msgspec.structs.replace(self.catalog, seen=()) if anew else self.catalog
        verdict = judge_session(text, facts, policy, catalog, corpus.TENANT)
        parts = verdict.parts if isinstance(verdict, Several) else (verdict,)
        return [part.sql for part in parts if isinstance(part, Forward) and part.kind == "select"]

    async def rows(self, sql: str) -> list[tuple[Any, ...]] | str:
        try:
            return [tuple(row) for row in await self.connection.fetch(sql, timeout=60)]
        except asyncpg.PostgresError as error:
            return f"{type(error).__name__}: {error}"


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    dsn = postgres.create_database("session")
    postgres.create_database("hush_database")
    try:
        postgres.execute(text_of("session_schema.sql") + GRANTS, "session")
        names = """
            SELECT oid::regclass::text, oid FROM pg_class UNION ALL SELECT oid::regtype::text, oid FROM pg_type
            UNION ALL SELECT nspname, oid FROM pg_namespace UNION ALL SELECT oid::regprocedure::text, oid FROM pg_proc
        """
        oids = dict(line.split("|") for line in postgres.execute(f"{names} ORDER BY 2 DESC", "session").splitlines())
        connection = await asyncpg.connect(postgres.dsn("session", ROLE, "x"))
        try:
            catalog = await read_session_catalog(_Plain(connection), corpus.policy())  # type: ignore[arg-type]
            yield Database(connection, catalog, oids)
        finally:
            await connection.close()
    finally:
        postgres.drop_database("session")
        postgres.drop_database("hush_database")
        postgres.execute(f"DROP ROLE {ROLE}; DROP ROLE hush_role")
        del dsn


@pytest.mark.timeout(400)  # some 600 statements
async def test_nothing_hidden_appears_in_any_answer(database: Database) -> None:
    texts = [(sent, sent.text(database.oid_of), sent.protocol) for sent in corpus.tools()]
    everything = [f"SELECT r::text, r.* FROM {schema}.{name} r" for schema, name in RELATIONS]
    probing = [database.aimed(text) for text in corpus.probing()]
    texts += [(None, text, "simple") for text in probing + everything]
    leaks, failed, seen, count = [], [], set(), 0
    for sent, text, protocol in texts:
        for sql in database.texts(text, corpus.policy(), protocol):
            rows = await database.rows(sent.with_values(sql, database.oid_of) if sent is not None else sql)
            count += 1
            shown = repr(rows)
            seen |= {word for word in SEEN if word in shown and sent is not None}
            if corpus.HIDDEN in shown or "sandpool_admin" in shown:
                leaks.append((text, shown[:300]))
            if isinstance(rows, str) and sent is not None:
                failed.append((sent.tool, text, rows))
    assert leaks == []
    assert failed == []
    assert seen == set(SEEN)
    assert count > 500


@pytest.mark.timeout(400)
async def test_what_is_visible_is_the_same_whether_computed_once_or_in_each_statement(database: Database) -> None:
    assert database.catalog.seen
    assert database.catalog.seen_by == corpus.policy().version
    everything = [f"SELECT r.* FROM {schema}.{name} r" for schema, name in RELATIONS if name != "pg_cursors"]
    listing = [sent.text(database.oid_of) for sent in corpus.tools()[::4] if sent.protocol == "simple"]
    different, compared = [], 0
    for text in everything + listing:
        for once, anew in zip(
            database.texts(text, corpus.policy()), database.texts(text, corpus.policy(), anew=True), strict=True
        ):
            left, right = await database.rows(once), await database.rows(anew)
            compared += 1
            if isinstance(left, str) or isinstance(right, str) or sorted(map(repr, left)) != sorted(map(repr, right)):
                different.append((text, str(left)[:200], str(right)[:200]))
    assert different == []
    assert compared > 100


async def test_conditions_of_a_client_never_meet_a_hidden_row(database: Database) -> None:
    for relation, name in (
        ("pg_class", "relname"), ("pg_attribute", "attname"), ("pg_type", "typname"), ("pg_proc", "proname"),
        ("pg_namespace", "nspname"), ("pg_constraint", "conname"), ("pg_description", "description"),
        ("information_schema.columns", "column_name"),
    ):  # fmt: skip
        telling = f"1 / (CASE WHEN x.{name} LIKE '%hush%' THEN 0 ELSE 1 END) = 1"
        below = f"SELECT FROM {relation} x WHERE x.{name} <> c.code AND {telling}"
        for text in (
            f"SELECT count(*) FROM {relation} x WHERE {telling}",
            f"SELECT count(*) FROM {relation} x JOIN {relation} y ON x.{name} = y.{name} AND {telling}",
            f"SELECT count(*) FROM carriers c WHERE EXISTS ({below})",
        ):
            for anew in (False, True):
                (sql,) = database.texts(text, corpus.policy(), anew=anew)
                assert isinstance(await database.rows(sql), list), (text, await database.rows(sql))


async def test_what_one_policy_shows_is_no_answer_for_another(database: Database) -> None:
    nothing = load_policy('tables = ["carriers"]')
    (sql,) = database.texts("SELECT relname FROM pg_class WHERE oid >= 16384", nothing)
    rows = await database.rows(sql)
    assert {row[0] for row in rows} == {"carriers", "carriers_pkey", "carriers_lower", "place"}


@pytest.mark.timeout(400)
async def test_a_session_that_may_see_everything_gets_what_a_direct_connection_gets(database: Database) -> None:
    differing, compared = [], 0
    others = await database.rows("SELECT datname FROM pg_catalog.pg_database WHERE datname <> current_database()")
    hidden = (*ALWAYS_HIDDEN, *(f"('{name}'" for (name,) in others))  # also those of other tests
    for sent in corpus.tools():
        if any(word in sent.sql for word in DIFFERENT_BY_DESIGN):
            continue
        text = sent.text(database.oid_of)
        for sql in database.texts(text, OPEN, sent.protocol)[:1] if ";" not in text.rstrip("; \n") else []:
            through = await database.rows(sent.with_values(sql, database.oid_of))
            direct = await database.rows(sent.with_values(text, database.oid_of))
            compared += 1
            if isinstance(direct, str) or isinstance(through, str):
                is_same = isinstance(direct, str)
            else:
                visible = sorted(repr(row) for row in direct if not any(word in repr(row) for word in hidden))
                through = [row for row in through if not any(word in repr(row) for word in hidden)]
                is_same = len(visible) == len(through)
                if sent.tool.partition("+")[0] not in SHOWS_OWNERS:
                    is_same = visible == sorted(map(repr, through))
            if not is_same:
                differing.append((sent.tool, sent.sql[:200], str(direct)[:300], str(through)[:300]))
    assert not differing, "\n".join(map(str, differing))
    assert compared > 250
