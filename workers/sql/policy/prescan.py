"""Cheap refusals on the raw text, before any parser sees it: size, encoding, nesting, hints and escapes.

Linear in the text. It reads quotes, comments and dollar quotes well enough to count brackets outside of them; where it
cannot be sure it counts too many, never too few. Called by verdict.py.
"""

from __future__ import annotations

import re

from workers.sql.policy.rules import deny

MAX_BYTES = 64 * 1024
MAX_DEPTH = 64

_TOKENS = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*)
  | (?P<escape>\b[Uu]&['"])
  | (?P<string>'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
    """,
    re.VERBOSE | re.DOTALL,
)
_HINT = re.compile(r"/\*(?:[!+]|M!)")


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
    if "/*" in text and _HINT.search(text):
        deny("text.hint", "optimizer hints and executable comments (/*+ /*! /*M!) are not allowed; leave them out")
    if "&" in text and _has_escape(text):
        deny("text.unicode-escape", "U&'...' escapes are not allowed; write the characters themselves")
    if depth(text, dialect) > MAX_DEPTH:
        deny("text.too-deep", f"brackets nest deeper than {MAX_DEPTH} levels; split the statement with WITH")


_ESCAPE = re.compile(r"(?<![\w$])[Uu]&['\"]")


def _has_escape(text: str) -> bool:
    return _ESCAPE.search(text) is not None


def depth(text: str, dialect: str) -> int:
    """Deepest nesting of brackets. Brackets in comments and quotes may be counted too: harmless below the limit."""
    if text.count("(") + text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    level = deepest = 0
    position, end = 0, len(text)
    while position < end:
        match = _TOKENS.search(text, position)
        if match is None:
            break
        position = match.end()
        kind = match.lastgroup
        if kind == "open":
            level += 1
            deepest = max(deepest, level)
        elif kind == "close":
            level -= 1
        elif kind == "comment" and match.group() == "/*":
            found = text.find("*/", position)
            position = end if found < 0 else found + 2
        elif kind == "dollar" and dialect != "sqlite":
            found = text.find(match.group(), position)
            position = found + len(match.group()) if found >= 0 else position
    return deepest
