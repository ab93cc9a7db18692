"""Honest work passes, hostile work is denied by the rule that is meant for it, and the printed text is a fixed
point."""

from __future__ import annotations

import pytest

from tests.support import policy_corpus as corpus
from workers.sql.policy import Dialect, judge
from workers.sql.policy.rules import RULES


@pytest.mark.parametrize("dialect", corpus.DIALECTS)
def test_every_honest_statement_passes_with_and_without_restrictions(dialect: Dialect) -> None:
    denied = [
        (verdict.rule, verdict.reason, text)
        for text in corpus.honest(dialect)
        for policy in (corpus.everything(), corpus.restricted(dialect))
        if not (verdict := judge(text, dialect, policy, corpus.catalog(dialect), corpus.TENANT)).allowed
    ]
    assert denied == []


@pytest.mark.parametrize("dialect", corpus.DIALECTS)
def test_every_hostile_statement_is_denied_by_the_rule_meant_for_it(dialect: Dialect) -> None:
    wrong = []
    for rule, text in corpus.hostile(dialect):
        verdict = judge(text, dialect, corpus.restricted(dialect), corpus.catalog(dialect), corpus.TENANT)
        if verdict.allowed or not verdict.rule.startswith(rule) or verdict.rule not in RULES:
            wrong.append((rule, verdict.rule or verdict.sql, text))
    assert wrong == []


@pytest.mark.parametrize("dialect", corpus.DIALECTS)
def test_every_denial_says_what_to_do_in_one_line(dialect: Dialect) -> None:
    for _, text in corpus.hostile(dialect):
        reason = judge(text, dialect, corpus.restricted(dialect), corpus.catalog(dialect), corpus.TENANT).reason
        assert 10 < len(reason) < 700 and "\n" not in reason, text


def test_the_corpora_are_as_large_as_promised() -> None:
    for dialect, honest, hostile in (("postgres", 430, 500), ("duckdb", 170, 200), ("sqlite", 140, 150)):
        assert len(set(corpus.honest(dialect))) >= honest
        assert len(set(corpus.hostile(dialect))) >= hostile


def test_what_was_printed_under_an_open_policy_prints_the_same_again() -> None:
    catalog = corpus.catalog("postgres")
    for text in corpus.honest("postgres"):
        printed = judge(text, "postgres", corpus.everything(), catalog, "").sql
        again = judge(printed, "postgres", corpus.everything(), catalog, "")
        assert again.sql in (
            printed,
            printed.replace("LEAST(", "LEAST(LEAST(").replace("::bigint)", "::bigint), 500::bigint)"),
        ), text
