"""The startup message of a session: which of its parameters become kept settings.

Called by the broker once a connection, in its own process: the parameters are few and short, and nothing is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.session.meaning import is_settled
from workers.sql.policy.session.settings import HELD, decide_setting
from workers.sql.policy.session.sqlstates import sqlstate_of
from workers.sql.policy.session.verdict import Refuse
from workers.sql.policy.tables import rulebook

_NOT_SETTINGS = frozenset({"user", "database", "options"})
_MAX_PARAMETERS = 64
_MAX_BYTES = 8192


def judge_startup(
    parameters: Mapping[str, str], policy: Policy, catalog: Catalog | None, *, writes: bool
) -> dict[str, str] | Refuse:
    """The settings to keep for a session that starts with these parameters, or why it may not start."""
    try:
        if len(parameters) > _MAX_PARAMETERS or sum(len(k) + len(v) for k, v in parameters.items()) > _MAX_BYTES:
            deny("text.too-long", "the startup message holds too much; set what is needed by SET")
        if parameters.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            deny("session.feature", "replication connections are not available here")
        asked = {name: value for name, value in parameters.items() if name not in _NOT_SETTINGS}
        asked.pop("replication", None)
        asked |= _options(parameters.get("options", ""))
        book = rulebook(policy, catalog, "postgres")
        settled = is_settled(book)
        kept: dict[str, str] = {}
        for name, value in asked.items():
            if name.startswith("_pq_."):
                continue  # options of the protocol, not settings
            if name.lower() in HELD and not settled:
                continue  # drivers send them unasked; what holds is reported to them
            plain = decide_setting(name, value, book.search_path, writes=writes)
            if plain is not None:
                kept[name.lower()] = plain
        return kept
    except Denied as denied:
        return Refuse(sqlstate_of(denied.rule), denied.rule, denied.reason)


def _options(text: str) -> dict[str, str]:
    """`-c name=value --name=value`, where a backslash keeps the character after it, as the server reads them."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "-c" and position < len(words):
            word = words[position]
            position += 1
        elif word.startswith("-c") and len(word) > len("-c"):
            word = word[len("-c") :]
        elif word.startswith("--"):
            word = word[len("--") :]
        else:
            deny("session.setting", f"the option {shown(word)!r} cannot be used here; write -c name=value")
        name, equals, value = word.partition("=")
        if not equals:
            deny("session.setting", f"the option {shown(word)!r} has no value; write -c name=value")
        found[name.replace("-", "_")] = value
    return found
