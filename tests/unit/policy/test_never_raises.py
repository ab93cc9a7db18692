"""Whatever the text, `judge` answers: it raises nothing, and what it prints it would allow again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import policy_corpus as corpus
from workers.sql.policy import Dialect, judge
from workers.sql.policy.rules import RULES

_TEXT = (
    "SELECT FROM WHERE customers c orders o secrets email name id tenant salary employees e * . , ( ) [ ] = < - @ ::"
    " || -> ->> 'x' $1 1 AS x(a, b) JOIN USING NATURAL ON true LATERAL GROUP BY ORDER LIMIT UNION ALL WITH s AS ( )"
    " VALUES ROW ARRAY EXISTS IN ANY CASE WHEN THEN END NULL IS NOT count( lower( to_json( pg_sleep( OVER FILTER"
    " DISTINCT TABLE ; -- /* */ \" ' $$"
)
WORDS = _TEXT.split(" ")


@pytest.mark.parametrize("dialect", corpus.DIALECTS)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), noise=st.text(max_size=3))
@settings(max_examples=settings.default.max_examples * 3 // 2, deadline=None)
def test_random_words_never_break_the_check(dialect: Dialect, words: list[str], noise: str) -> None:
    text = " ".join(["SELECT", *words, noise])
    verdict = judge(text, dialect, corpus.restricted(dialect), corpus.catalog(dialect), corpus.TENANT)
    assert verdict.rule in RULES or (verdict.allowed and verdict.sql)
    assert verdict.rule != "check.failed"
    assert "public.secrets" not in verdict.sql
