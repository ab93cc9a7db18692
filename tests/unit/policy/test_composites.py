"""Fields of composite values: one whose type is certain passes, and what could call a function instead does not."""

from __future__ import annotations

import pytest

from workers.sql.policy import judge, load_policy
from workers.sql.policy.ddl import catalog_from_ddl

CATALOG = catalog_from_ddl(
    """
    CREATE TYPE spot AS (x int, pg_sleep float8);
    CREATE TYPE public.address AS (street text, place spot);
    CREATE TYPE app.pair AS (a int, b int);
    CREATE TABLE people (id int PRIMARY KEY, name text, home address, others address[], secret address, two app.pair);
    CREATE FUNCTION evil(record) RETURNS text LANGUAGE sql AS '';
    """,
    "postgres",
)
POLICY = load_policy(
    """
    [tables.people]
    deny = ["secret"]
    mask = { two = "NULL::text" }
    filter = "id > 0"
    """
)
OPEN = load_policy('tables = "all"')


@pytest.mark.parametrize(
    "text",
    [
        "SELECT (home).street, (p.home).street, (people.home).place FROM people p, people WHERE (p.home).street > 'a'",
        "SELECT ((home).place).x, (home).place.x, ((home).place).pg_sleep FROM people",
        "SELECT (others[1]).street, (others[1:2])[1].street, others[1].street FROM people",
        "SELECT (home).*, ((home).place).* FROM people",
        "SELECT q.street FROM (SELECT (home).* FROM people) q ORDER BY street",
        "SELECT (p.f).street FROM people AS p(d, e, f)",
        "SELECT (ROW('a', NULL)::address).street, (jsonb_populate_record(NULL::address, '{}')).street",
        "SELECT (SELECT (p.home).street) FROM people p",
    ],
)
def test_fields_of_a_tables_own_columns_pass(text: str) -> None:
    for policy in (POLICY, OPEN):
        verdict = judge(text, "postgres", policy, CATALOG, "acme")
        assert verdict.allowed, (verdict.rule, verdict.reason)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("expression.attribute", "SELECT (home).pg_sleep FROM people"),
        ("expression.attribute", "SELECT (home).evil FROM people"),
        ("expression.attribute", "SELECT (id).street, (1.0).pg_sleep FROM people"),
        ("expression.attribute", "SELECT (x.home).pg_sleep FROM (SELECT 1.0 AS home) x"),
        ("expression.attribute", "SELECT (others).street FROM people"),
        ("expression.attribute", "SELECT (home).street.evil FROM people"),
        ("expression.attribute", "SELECT (two).a FROM people"),
        ("column.unknown", "SELECT q.evil FROM (SELECT (home).* FROM people) q"),
        ("column.denied", "SELECT (secret).street FROM people"),
        ("column.denied", "SELECT (secret).* FROM people"),
        ("column.denied", "SELECT (p.f).street FROM people AS p(a, b, c, d, f)"),
        ("column.whole-row", "SELECT (p).street FROM people p"),
        ("expression.attribute", "SELECT ((SELECT home FROM people LIMIT 1)).street FROM people"),
    ],
)
def test_what_is_no_certain_field_is_refused(rule: str, text: str) -> None:
    assert judge(text, "postgres", POLICY, CATALOG, "acme").rule == rule
