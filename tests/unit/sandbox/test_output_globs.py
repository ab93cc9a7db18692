"""Patterns of outputs: what they mean, and that no text makes them hang or raise. `workers.sandbox.jobs.globs`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.jobs.globs import is_literal, matches


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("*.png", "a.png", True), ("*.png", "b/a.png", False), ("**/*.png", "a.png", True),
        ("**/*.png", "b/c/a.png", True), ("**", "b/c/a.png", True), ("tables", "tables/a/b.csv", True),
        ("tables/", "tables/a.csv", True), ("tables/*", "tables/a/b.csv", True), ("a?.csv", "ab.csv", True),
        ("a?.csv", "a/.csv", False), ("[ab].csv", "a.csv", True), ("[!ab].csv", "a.csv", False),
        ("[!ab].csv", "c.csv", True), ("[z-a].csv", "b.csv", False), ("a.csv", "axcsv", False), ("./a", "a", True),
        ("a**b", "a/x/b", False), ("a**b", "axxb", True), ("out/*", "out/a", True), ("*", "ä\n.txt", True),
        ("[", "[", True), ("[]a]", "]", True), ("***", "a/b", True), ("a/**/b", "a/b", True), ("a/**", "a/b/c", True),
        ("**/b", "a/c/b/d", True), ("*a*b*c", "xaybzc", True), ("*a*b*c", "xaybz", False), ("[a-c]x", "bx", True),
        ("(a+)+$", "(a+)+$", True),
    ],
)  # fmt: skip
def test_a_pattern_means_what_a_shell_would_take_it_for(pattern: str, path: str, meant: bool) -> None:
    assert matches([pattern], path) is meant


@given(st.text("ab*?[]!-/.\\^&~|(){}+$ä", max_size=30), st.text("ab/.-", max_size=30))
def test_no_pattern_raises_whatever_it_is(pattern: str, path: str) -> None:
    assert matches([pattern], path) in (True, False)
    assert isinstance(is_literal(pattern), bool)


@given(st.lists(st.text("ab.", min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_literal_path_means_itself(segments: list[str]) -> None:
    path = "/".join(segments)
    assert is_literal(path)
    assert matches([path], path) or "." in segments
    assert matches(["**"], path)


def test_patterns_made_to_backtrack_are_answered_at_once() -> None:
    deep = "/".join(["a"] * 60)
    assert not matches(["**/" * 100 + "x", "*a" * 100 + "b", "**/*a*/" * 40 + "b"], deep)
    assert not matches(["*a" * 120 + "b"], "a" * 250)


def test_no_pattern_means_no_file() -> None:
    assert not matches([], "a.png")
