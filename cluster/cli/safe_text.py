"""Text from databases and jobs, made harmless for a terminal. Pure.

A value may hold escape sequences that move the cursor, retitle the window or hide text, and bidirectional marks that
reorder what is read: on a terminal each such character is shown as an escape instead of obeyed.
"""

from __future__ import annotations

import unicodedata

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Control, format (zero-width, bidirectional), surrogate, private use, and the two separators that break lines.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"
"""Needed by Persian, Indic scripts and emoji; they move nothing."""


def visible(text: str) -> str:
    """The text with every character that a terminal would obey shown as an escape. Line breaks become \\n."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in text)


def one_line(text: str, limit: int = 2000) -> str:
    """`visible`, cut at `limit` characters."""
    shown = visible(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _is_harmless(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _UNSAFE


def _escaped(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
