"""Cheap refusals on the raw text, before any parser sees it: size, encoding, nesting, hints and escapes.

Linear in the text. It skips quotes, comments and dollar quotes as the dialect reads them; a quote that never ends
counts as plain text. It saves the parsers work and is no boundary: they read the text by themselves. Called by
verdict.py.
"""

from __future__ import annotations

import re

from workers.sql.policy.rules import deny

MAX_BYTES = 64 * 1024
MAX_DEPTH = 64

_QUOTED = {
    "postgres": r"""(?<![\w$])[Ee]'(?:[^'\\]|\\.|'')*+' | '[^']*+' | "[^"]*+" """,
    "duckdb": r"""(?<![\w$])[Ee]'(?:[^'\\]|\\.|'')*+' | '[^']*+' | "[^"]*+" """,
    "sqlite": r"""'[^']*+' | "[^"]*+" | `[^`]*+` """,
}
"""A doubled quote reads as two quoted pieces, side by side: all the same here."""
_TOKENS = {
    dialect: re.compile(
        rf"""
        (?P<hint>/\*(?:[!+]|M!))
      | (?P<comment>--[^\n]*|/\*)
      | (?P<escape>(?<![\w$])[Uu]&['"])
      | (?P<quoted>{quoted})
      | (?P<dollar>(?<![\w$])\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
      | (?P<open>[(\[{{])
      | (?P<close>[)\]}}])
        """,
        re.VERBOSE | re.DOTALL,
    )
    for dialect, quoted in _QUOTED.items()
}
_REMARK = re.compile(r"/\*|\*/")


def scan(text: str, dialect: str) -> None:
    """Raises Denied for text that no parser should see."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        deny("text.encoding", "the text is not valid Unicode; send UTF-8")
    if size > MAX_BYTES:
        deny("text.too-long", f"the text has {size} bytes; at most {MAX_BYTES} are allowed: pass data as parameters")
    if "\0" in text:
        deny("text.encoding", "the text holds a NUL character; leave it out")
    crowded = text.count("(") + text.count("[") + text.count("{") > MAX_DEPTH
    if crowded or "/*" in text or "&" in text:
        _read(text, dialect)


def _read(text: str, dialect: str) -> None:
    """Looks for hints, escapes and deep nesting outside of quotes and comments."""
    tokens = _TOKENS[dialect]
    level = position = 0
    while (match := tokens.search(text, position)) is not None:
        position = match.end()
        kind = match.lastgroup
        if kind == "open":
            level += 1
            if level > MAX_DEPTH:
                deny("text.too-deep", f"brackets nest deeper than {MAX_DEPTH} levels; split the statement with WITH")
        elif kind == "close":
            level -= 1
        elif kind == "hint":
            deny("text.hint", "optimizer hints and executable comments (/*+ /*! /*M!) are not allowed; leave them out")
        elif kind == "escape":
            deny("text.unicode-escape", "U&'...' escapes are not allowed; write the characters themselves")
        elif kind == "comment" and match.group() == "/*":
            position = _comment_end(text, position, nests=dialect == "postgres")
        elif kind == "dollar" and dialect != "sqlite":
            found = text.find(match.group(), position)
            position = found + len(match.group()) if found >= 0 else position


def _comment_end(text: str, position: int, *, nests: bool) -> int:
    level = 1
    while (match := _REMARK.search(text, position)) is not None:
        position = match.end()
        if match.group() == "*/":
            level -= 1
            if level == 0:
                return position
        elif nests:
            level += 1
    return len(text)
