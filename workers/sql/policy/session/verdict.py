"""What the broker may do with one statement of a session. Data only; `decide.judge_session` makes it.

Four answers and their sequence: the printed text goes to the server (`Forward`), the broker's own session control
(`Own`), an answer without the server (`Answer`), an error (`Refuse`), or `Several` of the first three in order.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Protocol = Literal["simple", "extended"]
ForwardKind = Literal[
    "select", "insert", "update", "delete", "merge", "copy-out", "copy-in", "declare", "fetch", "move", "close"
]
Verb = Literal[
    "begin",
    "commit",
    "rollback",
    "savepoint",
    "release",
    "rollback-to",
    "set",
    "reset",
    "show",
    "close-all",
    "deallocate",
    "discard",
]
CURSOR_KINDS = frozenset({"declare", "fetch", "move", "close"})
"""Forwarded only inside a transaction block: elsewhere the broker answers 25P01."""


class SessionFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a verdict depends on besides text, policy, catalog and tenant. Few on purpose: verdicts are cached by it."""

    protocol: Protocol = "simple"
    """simple: the text of a Query message; extended: the text of a Parse message."""
    writes: bool = False
    """Whether this session may use the writes that the policy lists."""
    database: str = ""
    """The database as the client named it when it connected: tables may be written with it."""


class Forward(msgspec.Struct, frozen=True, tag="forward", array_like=True):
    """`sql`, and never the client's text, goes to the server; its rows are the client's."""

    sql: str
    kind: ForwardKind
    max_rows: int | None = None
    """The row limit that the text carries: a result of that many rows may be cut. None: not limited by the policy."""
    is_catalog: bool = False
    """Whether it asks about the database itself and reads no table."""
    parameters: int = 0
    """The highest number of a parameter in it."""
    query: str = ""
    """The query in it, where the server explains only that: of COPY."""


class Own(msgspec.Struct, frozen=True, tag="own", array_like=True):
    """Session control that the broker carries out.

    begin: `isolation` (`serializable`, ...; empty: the session's default), `read_only`, `deferrable`; None: not said.
    commit, rollback: `chain`. savepoint, release, rollback-to: `name`.
    set: keep `settings` for the session (`is_local`: until the transaction ends) and put them on each server connection
    with `local_settings_sql`. The names `transaction_isolation`, `transaction_read_only` and `transaction_deferrable`
    (always local) belong to the open transaction: the broker runs `sql`.
    reset: forget the setting `name`, all of them without one. show: answer the kept value of the setting `name`, else
    run `sql`. deallocate: close the prepared statement `name`, all without one. close-all: close every cursor, by `sql`
    where a transaction is open. discard: reset, close and deallocate everything; 25001 inside a transaction block.
    """

    verb: Verb
    tag: str
    """The command tag of success."""
    sql: str = ""
    """The same as text for the server, printed: for transaction control, `show` and `close-all`."""
    name: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    is_local: bool = False
    isolation: str = ""
    read_only: bool | None = None
    deferrable: bool | None = None
    chain: bool = False


class Answer(msgspec.Struct, frozen=True, tag="answer", array_like=True):
    """Answered without the server. Every column is of type text (OID 25), so text and binary format are the same."""

    columns: tuple[str, ...]
    """Empty: a command without a result, or with an empty `tag` the empty query."""
    rows: tuple[tuple[str | None, ...], ...]
    tag: str


class Refuse(msgspec.Struct, frozen=True, tag="refuse", array_like=True):
    """An error for the client. It aborts an open transaction as an error of the server would."""

    sqlstate: str
    rule: str
    """Dotted id, see docs/policy.md."""
    message: str
    hint: str = ""


class Several(msgspec.Struct, frozen=True, tag="several", array_like=True):
    """Statements of one simple-protocol string, to be done in order until one fails: only such as cannot touch data."""

    parts: tuple[Forward | Own | Answer, ...]


SessionVerdict = Forward | Own | Answer | Refuse | Several
