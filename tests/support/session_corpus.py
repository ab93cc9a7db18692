"""What sessions of the broker are tested with: the database of session_schema.sql, its policy, what real tools send,
and what hostile clients might.

Everything that the policy hides has `hush` in its name, comment or value, so that no result may hold that word.
`session_tools.jsonl` was collected by running the tools against such a database with `log_statement = all`; OIDs in it
are written as {oid:name} and {type:name}. `session_catalog.json` is what the pool reads of the database (of
PostgreSQL 15).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache

import msgspec

from tests.support.policy_corpus import text_of
from workers.sql.policy import Catalog, Policy, load_policy
from workers.sql.policy.session import Protocol, SessionFacts, SessionVerdict, judge_session

TENANT = "acme"
HIDDEN = "hush"
_OID = re.compile(r"\{(?:oid|type):([^}]+)\}")
_NUMBER = re.compile(r"\$(\d+)")
_VALUE = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)")


class Sent(msgspec.Struct, frozen=True):
    """One statement that a tool sent."""

    tool: str
    protocol: Protocol
    sql: str
    parameters: str = ""
    """As the server logs them: $1 = 'x', $2 = NULL."""

    def text(self, oid_of: Callable[[str], str]) -> str:
        """The text with the OIDs of this database."""
        return _OID.sub(lambda match: oid_of(match[1]), self.sql)

    def with_values(self, sql: str, oid_of: Callable[[str], str]) -> str:
        """A text of this statement with the parameters' values in their places."""
        values = dict(_VALUE.findall(_OID.sub(lambda match: oid_of(match[1]), self.parameters)))
        return _NUMBER.sub(lambda match: values.get(match[1], match[0]), sql) if values else sql


@cache
def policy() -> Policy:
    """Some tables, one of them with denied columns and a row filter."""
    return load_policy(text_of("session_policy.toml"))


@cache
def catalog() -> Catalog:
    """The catalog of the database, as it was read."""
    return msgspec.json.decode(text_of("session_catalog.json"), type=Catalog)


def ask(text: str, *, protocol: Protocol = "simple", writes: bool = False) -> SessionVerdict:
    """The verdict under `policy` and `catalog`."""
    return judge_session(text, SessionFacts(protocol, writes), policy(), catalog(), TENANT)


def tools() -> list[Sent]:
    """What real tools sent."""
    return [msgspec.json.decode(line, type=Sent) for line in text_of("session_tools.jsonl").splitlines()]


def hostile() -> list[tuple[str, str]]:
    """(rule, statement that must be refused by it)."""
    return [(entry["rule"], entry["sql"]) for entry in map(json.loads, text_of("session_hostile.jsonl").splitlines())]


def probing() -> list[str]:
    """Statements that may run and may show nothing hidden."""
    return text_of("session_probing.sql").splitlines()
