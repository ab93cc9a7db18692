"""libpg_query's printer is the inverse of its parser for everything that the corpora hold."""

from __future__ import annotations

import pytest

from tests.support import policy_corpus as corpus
from workers.sql.policy import Dialect
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.prescan import scan
from workers.sql.policy.rules import Denied


def test_printing_and_parsing_again_gives_the_same_tree() -> None:
    for text in corpus.honest("postgres"):
        (statement,) = parse(text)
        assert parse(print_tree(statement)) == [statement], text


def test_a_string_that_looks_like_a_position_is_kept() -> None:
    (statement,) = parse("""SELECT 'x"location":7,"location":8'""")
    assert '"location":7,"location":8' in print_tree(statement)


@pytest.mark.parametrize("text", ["SELECT " + "(" * 65 + "1" + ")" * 65, "SELECT [[" + "(" * 63, "x" * 65_537])
def test_the_scan_refuses_what_no_parser_should_see(text: str) -> None:
    with pytest.raises(Denied):
        scan(text, "postgres")


@pytest.mark.parametrize(
    "quoted", ["'%s'", '"%s"', "$$%s$$", "$x$%s$x$", "/* %s */ 1", "1 -- %s", "E'\\'%s'", "'\\', '%s'"]
)
def test_brackets_in_quotes_and_comments_do_not_count(quoted: str) -> None:
    scan("SELECT " + quoted % ("(" * 500), "postgres")
    scan("SELECT " + "(" * 60 + quoted % ("(" * 500) + "\n" + ")" * 60, "postgres")
    with pytest.raises(Denied):
        scan("SELECT " + quoted % "" + "\n" + "(" * 70 + ")" * 70, "postgres")


@pytest.mark.parametrize("inside", ["/*+ x */", "/*! x */", "U&x", 'U&"x"', "-- x", "/*M! */"])
@pytest.mark.parametrize("dialect", corpus.DIALECTS)
def test_what_only_looks_like_a_hint_or_an_escape_inside_a_quote_passes(dialect: Dialect, inside: str) -> None:
    for text in (f"SELECT '{inside}'", f"SELECT 'a''{inside}' -- {inside}"):
        try:
            scan(text, dialect)
        except Denied as denied:
            pytest.fail(f"{text}: {denied.rule}")


@pytest.mark.parametrize(
    "text",
    ["SELECT '' /*+ x */", "SELECT U&'x'", "SELECT 'it''s', u&\"x\"", "SELECT '\\'/*! 1 */", "/*M! 1 */ SELECT 1"],
)
@pytest.mark.parametrize("dialect", corpus.DIALECTS)
def test_hints_and_escapes_outside_of_quotes_are_refused(dialect: Dialect, text: str) -> None:
    with pytest.raises(Denied):
        scan(text, dialect)
