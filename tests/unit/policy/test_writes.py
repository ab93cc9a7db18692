"""Writes pass only as the policy lists them, and cannot leave the row filter."""

from __future__ import annotations

import pytest

from sandpool.outcome import Verdict
from workers.sql.policy import Catalog, CatalogColumn, CatalogTable, judge, load_policy

CATALOG = Catalog(
    tables=(
        CatalogTable(schema="public", name="t", columns=tuple(map(CatalogColumn, ("id", "owner", "x", "secret", "m")))),
        CatalogTable(schema="public", name="free", columns=tuple(map(CatalogColumn, ("id", "x")))),
        CatalogTable(schema="public", name="log", columns=tuple(map(CatalogColumn, ("id", "x")))),
    )
)
POLICY = load_policy("""
mode = "writes"
[tables.t]
deny = ["secret"]
filter = "owner = {tenant}"
mask = { m = "NULL" }
[tables.free]
[tables.log]
[[writes]]
table = "t"
kinds = ["insert", "update", "delete", "merge"]
[[writes]]
table = "free"
kinds = ["insert", "update", "delete", "merge"]
[[writes]]
table = "log"
kinds = ["insert"]
""")


def judged(text: str, *, writes: bool = True) -> Verdict:
    return judge(text, "postgres", POLICY, CATALOG, "acme", writes=writes)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("INSERT INTO free (id, x) VALUES (1, 'a') RETURNING id", "insert"),
        ("INSERT INTO free VALUES (1, 'a'), (2, DEFAULT)", "insert"),
        ("INSERT INTO free DEFAULT VALUES", "insert"),
        ("INSERT INTO log SELECT id, x FROM t", "insert"),
        (
            "INSERT INTO free (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET x = excluded.x WHERE free.x <> 'a'",
            "insert",
        ),
        ("INSERT INTO log (id) VALUES ($1) ON CONFLICT DO NOTHING", "insert"),
        ("UPDATE free AS f SET x = 'a' WHERE f.id = 1 RETURNING f.*", "update"),
        ("UPDATE free SET (id, x) = (SELECT 1, 'a') FROM log WHERE log.id = free.id", "update"),
        ("DELETE FROM free USING log WHERE log.id = free.id", "delete"),
        ("WITH d AS (DELETE FROM free WHERE id = 1 RETURNING *) INSERT INTO log SELECT * FROM d", "insert"),
        ("WITH d AS (DELETE FROM free WHERE id = 1 RETURNING id) SELECT count(*) FROM d", "delete"),
        (
            (
                "MERGE INTO free USING log ON free.id = log.id WHEN MATCHED THEN UPDATE SET x = log.x"
                " WHEN NOT MATCHED THEN INSERT VALUES (log.id, log.x)"
            ),
            "merge",
        ),
    ],
)
def test_listed_writes_pass(text: str, statement: str) -> None:
    verdict = judged(text)
    assert verdict.allowed, (verdict.rule, verdict.reason)
    assert verdict.statement == statement
    assert judged(text, writes=False).rule == "write.undeclared"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("UPDATE log SET x = 'a' WHERE id = 1", "write.not-allowed"),
        ("DELETE FROM log WHERE id = 1", "write.not-allowed"),
        ("INSERT INTO log (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET x = 'a'", "write.not-allowed"),
        ("INSERT INTO sandpool_jobs VALUES ('x')", "table.unlisted"),
        ("DELETE FROM free", "write.where"),
        ("UPDATE free SET x = 'a'", "write.where"),
        ("DELETE FROM free WHERE true", "write.where"),
        ("DELETE FROM free WHERE 1 = 1", "write.where"),
        ("UPDATE free SET x = 'a' FROM log WHERE log.id = 1", "write.where"),
        ("DELETE FROM free WHERE CURRENT OF c", "write.where"),
        ("UPDATE t SET owner = 'other' WHERE id = 1", "write.filtered"),
        ("UPDATE t SET secret = 'a' WHERE id = 1", "column.denied"),
        ("UPDATE t SET x = secret WHERE id = 1", "column.denied"),
        ("UPDATE t SET x = m WHERE id = 1", "write.masked"),
        ("DELETE FROM t WHERE m = 'a'", "write.masked"),
        ("DELETE FROM t WHERE id = 1 RETURNING *", "column.star"),
        ("DELETE FROM t WHERE id = 1 RETURNING t", "column.whole-row"),
        ("DELETE FROM t WHERE id = 1 RETURNING m", "write.masked"),
        ("INSERT INTO t (id, owner) VALUES (1, 'other')", "write.filtered"),
        ("INSERT INTO t (id, owner) VALUES (1, 'acme'), (2, 'other')", "write.filtered"),
        ("INSERT INTO t (id, owner) VALUES (1, $1)", "write.filtered"),
        ("INSERT INTO t (id) VALUES (1)", "write.filtered"),
        ("INSERT INTO t (id, owner) SELECT id, x FROM free", "write.filtered"),
        ("INSERT INTO t (id, owner) SELECT *, 'acme' FROM free", "write.filtered"),
        ("INSERT INTO t (x, owner, id) SELECT (jsonb_each_text($1)).*, 'acme'", "write.filtered"),
        ("INSERT INTO t (x, owner) SELECT (jsonb_each_text($1)).*, 'acme' LIMIT 0", "write.filtered"),
        ("INSERT INTO t VALUES (1, 'acme', 'x', 's', 'm')", "column.denied"),
        ("INSERT INTO t (id, owner, secret) VALUES (1, 'acme', 's')", "column.denied"),
        ("INSERT INTO t (id, owner) VALUES (1, 'acme') ON CONFLICT (id) DO UPDATE SET x = 'a'", "write.filtered"),
        ("MERGE INTO t USING log ON t.id = log.id WHEN MATCHED THEN DELETE", "write.filtered"),
        ("INSERT INTO free SELECT id, pg_sleep(1)::text FROM log", "function.unlisted"),
        ("INSERT INTO free VALUES ((SELECT 1 FROM secrets), 'a')", "table.unlisted"),
        ("INSERT INTO free (id) VALUES (1) RETURNING (SELECT value FROM secrets)", "table.unlisted"),
        (
            "INSERT INTO free (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET x = (SELECT value FROM secrets)",
            "table.unlisted",
        ),
        ("SELECT * FROM free FOR UPDATE", "statement.locking"),
        ("TRUNCATE free", "statement.kind"),
        ("WITH d AS (TRUNCATE free) SELECT 1", "statement.syntax"),
        ("SELECT 1 WHERE 1 IN (WITH d AS (DELETE FROM log RETURNING id) SELECT id FROM d)", "write.not-allowed"),
    ],
)
def test_what_a_write_may_not_do_is_denied(text: str, rule: str) -> None:
    verdict = judged(text)
    assert (verdict.allowed, verdict.rule) == (False, rule), verdict


def test_an_update_and_a_delete_reach_only_rows_inside_the_filter() -> None:
    assert judged("DELETE FROM t WHERE id = 1").sql == "DELETE FROM public.t WHERE t.owner = 'acme' AND id = 1"
    assert judged("UPDATE t AS a SET x = 'b' WHERE a.id = 1 OR true").sql == (
        "UPDATE public.t a SET x = 'b' WHERE a.owner = 'acme' AND (a.id = 1 OR true)"
    )


def test_a_write_condition_that_can_fail_is_not_run_on_hidden_rows() -> None:
    assert judged("DELETE FROM t WHERE 1 / id > 0").sql == (
        "DELETE FROM public.t WHERE t.owner = 'acme' AND CASE WHEN t.owner = 'acme' THEN (1 / id) > 0 END"
    )


def test_an_insert_whose_rows_are_seen_to_pass_the_filter_is_allowed() -> None:
    assert judged("INSERT INTO t (id, owner) VALUES (1, 'acme'), (2, 'acme')").allowed
    assert judged("INSERT INTO t (owner, id) SELECT 'acme', id FROM free").allowed


def test_reads_inside_a_write_follow_the_read_rules() -> None:
    text = judged("INSERT INTO log (id, x) SELECT id, m FROM t").sql
    assert "FROM (SELECT t.id, t.owner, t.x, NULL AS m FROM public.t WHERE t.owner = 'acme' OFFSET 0) t" in text


def test_a_read_only_policy_allows_no_write_whatever_the_job_declares() -> None:
    policy = load_policy('tables = "all"')
    assert (
        judge("DELETE FROM free WHERE id = 1", "postgres", policy, CATALOG, "", writes=True).rule == "write.not-allowed"
    )
