"""What real tools ask of a session passes; what reaches for hidden things is refused by the rule meant for it or asks
only the filtered catalogs."""

from __future__ import annotations

import pytest

from tests.support import session_corpus as corpus
from workers.sql.policy import judge
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.rules import RULES
from workers.sql.policy.session import Answer, Forward, Own, Refuse, SessionFacts, Several, judge_session
from workers.sql.policy.session.introspection import GUARDED, NULLS, PLAIN, SIZES
from workers.sql.policy.session.relations import RELATIONS


def forwarded(text: str) -> str:
    verdict = corpus.ask(text)
    assert isinstance(verdict, Forward), verdict
    return verdict.sql


def test_everything_that_real_tools_send_passes() -> None:
    refused = []
    for sent in corpus.tools():
        verdict = corpus.ask(sent.text(lambda _: "16400"), protocol=sent.protocol)
        if isinstance(verdict, Refuse):
            refused.append((sent.tool, verdict.rule, verdict.message, sent.sql))
    assert refused == []


def test_the_tools_are_those_that_were_promised() -> None:
    assert {sent.tool.partition("+")[0].split()[0] for sent in corpus.tools()} >= {
        "psycopg", "asyncpg", "sqlalchemy", "pandas", "polars", "adbc", "psql", "pgjdbc", "dbt", "duckdb", "pg8000",
        "psycopg2", "node-postgres", "metabase", "tableau", "odbc", "npgsql",
    }  # fmt: skip


def test_every_hostile_statement_is_refused_by_the_rule_meant_for_it() -> None:
    wrong = []
    for rule, text in corpus.hostile():
        verdict = corpus.ask(text)
        if not isinstance(verdict, Refuse) or verdict.rule != rule or rule not in RULES or len(verdict.sqlstate) != 5:
            wrong.append((rule, verdict, text))
    assert wrong == []


def test_no_hostile_statement_passes_by_the_extended_protocol_either() -> None:
    passed = [text for _, text in corpus.hostile() if not isinstance(corpus.ask(text, protocol="extended"), Refuse)]
    assert passed == []


def test_jobs_read_no_catalog_whatever_sessions_may() -> None:
    for text in ("SELECT * FROM pg_class", "SELECT 'trips'::regclass", "SELECT version()", "SELECT current_user"):
        assert not judge(text, "postgres", corpus.policy(), corpus.catalog(), corpus.TENANT).allowed
        assert isinstance(corpus.ask(text), Forward)


def test_queries_of_tables_get_the_verdicts_of_jobs() -> None:
    for text in ("SELECT code FROM carriers", "SELECT sum(distance) FROM trips", "SELECT * FROM app.stops ORDER BY 1"):
        verdict = judge(text, "postgres", corpus.policy(), corpus.catalog(), corpus.TENANT)
        assert forwarded(text) == verdict.sql


def test_each_catalog_is_read_only_inside_the_with_query_that_stands_for_it() -> None:
    for (schema, name), relation in RELATIONS.items():
        sql = forwarded(f"SELECT * FROM {schema}.{name}")
        select = parse(sql)[0]["SelectStmt"]
        names = [item["CommonTableExpr"]["ctename"] for item in select["withClause"]["ctes"]]
        assert names[-1] == f"_sandpool_{schema}_{name}"
        assert select["fromClause"] == [
            {"RangeVar": {"relname": names[-1], "inh": True, "relpersistence": "p", "alias": {"aliasname": name}}}
        ]
        assert relation.filter


@pytest.mark.parametrize(
    "text",
    [
        "SELECT relname FROM pg_class",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 3) SELECT relname FROM n, pg_class",
        "(SELECT relname FROM pg_class LIMIT 1) UNION ALL SELECT nspname FROM pg_namespace ORDER BY 1",
        "DECLARE c CURSOR FOR SELECT relname FROM pg_class",
        "COPY (SELECT relname FROM pg_class) TO STDOUT",
    ],
)
def test_a_text_with_catalogs_is_read_again_as_what_was_checked_behind_them(text: str) -> None:
    (statement,) = parse(forwarded(text))
    message = next(iter(statement.values()))
    select = message["query"]["SelectStmt"] if "query" in message else message
    names = [item["CommonTableExpr"]["ctename"] for item in select["withClause"]["ctes"]]
    own = [name for name in names if name.startswith("_sandpool_")]
    assert names[: len(own)] == own
    assert "_sandpool_pg_catalog_pg_class" in own
    assert "_sandpool_place" not in own
    assert [parse(print_tree(statement))] == [[statement]]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT U&'\\005fsandpool_place AS (SELECT)' FROM pg_class",
        "SELECT E'\\x5fsandpool_place AS (SELECT)' FROM pg_class",
        'SELECT 1 AS U&"\\005fsandpool_place AS (SELECT)" FROM pg_class',
        'DECLARE U&"\\005fsandpool_place AS (SELECT)" CURSOR FOR SELECT relname FROM pg_class',
        'WITH U&"\\005fsandpool_place" AS (SELECT) SELECT relname FROM pg_class',
    ],
)
def test_words_that_stand_for_the_catalogs_cannot_be_smuggled_in(text: str) -> None:
    verdict = corpus.ask(text)
    assert isinstance(verdict, Refuse), verdict


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("SELECT 'trips'::regclass", "'trips'::regclass::text"),
        ("SELECT oid FROM pg_class WHERE oid = 'trips'::regclass", "'trips'::regclass::oid"),
        ("SELECT c.oid::regclass FROM pg_class c", "c.oid::regclass::text"),
        ("SELECT c.oid::regclass::text FROM pg_class c", "SELECT c.oid::regclass::text FROM"),
        ("SELECT i::regclass FROM generate_series(1, 2) i", "FROM _sandpool_relations _sandpool_v"),
        (
            "SELECT oid::regclass FROM pg_class JOIN generate_series(1, 2) g(oid) USING (oid)",
            "FROM _sandpool_relations",
        ),
        ("SELECT format_type(a.atttypid, 1) FROM pg_attribute a", "pg_catalog.format_type(a.atttypid, 1)"),
        ("SELECT format_type(i, 1) FROM generate_series(1, 2) i", "FROM _sandpool_types _sandpool_v"),
        ("SELECT typinput FROM pg_type", "typinput::pg_catalog.regproc::pg_catalog.text"),
        ("SELECT pg_typeof(1)", "pg_typeof(1)::pg_catalog.text"),
        ("SELECT set_config('jit', 'off', false)", "'off'::pg_catalog.text"),
        ("SELECT pg_get_viewdef('trip_totals')", "''::pg_catalog.text"),
    ],
)
def test_values_that_print_names_are_made_plain_where_they_flow(text: str, inside: str) -> None:
    assert inside.replace("pg_catalog.", "") in forwarded(text).replace("pg_catalog.", "")


def test_a_type_is_told_to_jobs_as_text() -> None:
    verdict = judge("SELECT pg_typeof(1) UNION ALL SELECT 16400", "postgres", corpus.policy(), corpus.catalog(), "t")
    assert "pg_typeof(1)::pg_catalog.text" in verdict.sql.replace("::text", "::pg_catalog.text")


def test_a_read_of_catalogs_alone_is_not_cut_at_the_policys_rows() -> None:
    listing, data = corpus.ask("SELECT * FROM pg_attribute"), corpus.ask("SELECT code FROM carriers, pg_class")
    assert isinstance(listing, Forward)
    assert isinstance(data, Forward)
    assert listing.is_catalog
    assert listing.max_rows == 1_000_000
    assert not data.is_catalog
    assert data.max_rows == 1000


def test_duckdbs_string_of_catalog_reads_after_begin_is_done_in_order() -> None:
    verdict = corpus.ask("BEGIN READ ONLY; SELECT oid FROM pg_namespace; SELECT version()")
    assert isinstance(verdict, Several)
    assert [type(part) for part in verdict.parts] == [Own, Forward, Forward]


def test_a_table_may_be_written_with_the_sessions_own_database() -> None:
    facts = SessionFacts(database="flights")
    for database, is_own in (("flights", True), ("session", True), ("other", False)):
        text = f"SELECT code FROM {database}.public.carriers"
        verdict = judge_session(text, facts, corpus.policy(), corpus.catalog(), "t")
        assert isinstance(verdict, Forward) is is_own


def test_what_the_server_never_answers_is_answered_the_same_for_every_session() -> None:
    assert isinstance(corpus.ask("SELECT pg_advisory_unlock_all()"), Answer)


def test_no_function_for_introspection_is_on_two_lists_that_disagree() -> None:
    guarded = {name for name, _ in GUARDED}
    assert not guarded & set(SIZES)
    assert not guarded & set(NULLS)
    assert set(PLAIN) & guarded == {"pg_partition_ancestors"}
