"""SQLite's tokens, as far as they matter to text that SQLite itself has compiled: quotes, comments, everything else.

Used by check.py to drop comments and the final semicolon, and to put the tenant into the policy's own expressions.
Never
used to decide what a caller's statement means.
"""

from __future__ import annotations

import re

from workers.sql.policy.rules import deny

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<tenant>\{tenant\})
      | (?P<word>[A-Za-z_0-9$\x80-\U0010ffff]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def without_comments(text: str) -> str:
    """The text with each comment as one space, and without final semicolons. Raises Denied for a semicolon inside."""
    parts = ["" if kind == "semicolon" else part for kind, part in _parts(text)]
    kinds = [kind for kind, _ in _parts(text) if kind != "space"]
    while kinds and kinds[-1] == "semicolon":
        kinds.pop()
    if "semicolon" in kinds:
        deny("statement.multiple", "there is more than one statement; send them one by one")
    return "".join(parts).strip()


def words(text: str) -> list[str]:
    """Names, keywords and numbers outside of quotes, in lower case, in order."""
    return [part.lower() for kind, part in _parts(text) if kind == "word"]


def mentions(text: str) -> set[str]:
    """Everything that could name a table: words, and the content of quotes of every kind, in lower case."""
    found = {part.lower() for kind, part in _parts(text) if kind == "word"}
    for kind, part in _parts(text):
        if kind == "quoted":
            found.add(part[1:-1].replace(part[-1] * 2, part[-1]).lower())
    return found


def with_tenant(text: str, tenant: str) -> tuple[str, int]:
    """The policy's expression with the tenant as a string literal, and how often that happened outside of quotes."""
    literal = "'" + tenant.replace("'", "''") + "'"
    parts = [literal if kind == "tenant" else part for kind, part in _parts(text)]
    return "".join(parts), sum(kind == "tenant" for kind, _ in _parts(text))


def _parts(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        part = match.group()
        if kind == "comment":
            found.append(("space", " "))
        elif part == ";":
            found.append(("semicolon", part))
        else:
            found.append((kind, part))
    return found
