"""Which of the files that code left does a pattern mean? Pure: (patterns, relative paths) -> yes or no.

`*` and `?` stay within a folder, `**` as a whole segment crosses folders, `[...]` is a set of characters. A pattern
that matches a folder means everything below it. Paths come from the sandbox: they are only compared, never opened here.
Not by `re`: both pattern and path are a tenant's, and `**/**/**/x` as an expression backtracks without end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

Token = tuple[str, bool] | None
"""One character of a set (the characters, negated), or None: any number of any characters."""
_ANY = ("", True)
_RANGE = re.compile(r"(.)-(.)|(.)", re.DOTALL)
_SET = re.compile(r"\[(!?)(\]?[^\]/]*)\]")
_LONGEST_RANGE = 1000


def is_literal(pattern: str) -> bool:
    """Whether the pattern names one file or folder."""
    return not set("*?[") & set(pattern)


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether one of the patterns means this file."""
    names = path.split("/")
    return any(_matches(_parsed(pattern), names) for pattern in patterns)


def _matches(pattern: Sequence[tuple[Token, ...] | None], names: Sequence[str]) -> bool:
    """Segment by segment: which places in the pattern can be reached after so many names."""
    if not pattern:
        return False
    places = _with_skips({0}, pattern)
    for name in names:
        if len(pattern) in places:
            return True  # `**` alone, or a folder above the file
        after = set()
        for place in places:
            if place == len(pattern):
                continue
            tokens = pattern[place]
            if tokens is None:
                after.add(place)
            elif _segment_matches(tokens, name):
                after.add(place + 1)
        places = _with_skips(after, pattern)
    return len(pattern) in places


def _with_skips(places: set[int], pattern: Sequence[tuple[Token, ...] | None]) -> set[int]:
    """`**` may also stand for no folder at all."""
    reached = set(places)
    for place, tokens in enumerate(pattern):
        if tokens is None and place in reached:
            reached.add(place + 1)
    return reached


def _segment_matches(tokens: Sequence[Token], name: str) -> bool:
    """The usual two pointers: after a mismatch the last `*` takes one more character."""
    token = char = 0
    star, taken = -1, 0
    while char < len(name):
        current = tokens[token] if token < len(tokens) else ("", False)
        if current is None:
            star, taken, token = token, char, token + 1
        elif (name[char] in current[0]) is not current[1]:
            token, char = token + 1, char + 1
        elif star >= 0:
            taken += 1
            token, char = star + 1, taken
        else:
            return False
    return all(left is None for left in tokens[token:])


@lru_cache(maxsize=1024)
def _parsed(pattern: str) -> tuple[tuple[Token, ...] | None, ...]:
    segments = [segment for segment in pattern.split("/") if segment not in ("", ".")]
    return tuple(None if segment == "**" else tuple(_tokens(segment)) for segment in segments)


def _tokens(segment: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(segment):
        if found := _SET.match(segment, at):
            tokens.append((_members(found[2]), found[1] == "!"))
            at = found.end()
            continue
        tokens.append({"*": None, "?": _ANY}.get(segment[at], (segment[at], False)))
        at += 1
    return tokens


def _members(text: str) -> str:
    """Every character of a set; a range that runs backwards, or is very long, has none."""
    members = []
    for first, last, single in _RANGE.findall(text):
        count = ord(last) - ord(first) + 1 if first else 0
        members.append(single or "".join(chr(ord(first) + n) for n in range(min(count, _LONGEST_RANGE))))
    return "".join(members)
