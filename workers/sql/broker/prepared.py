"""Statements as the server knows them: named by the broker after their printed text, so that sessions share them and a
statement prepared on one connection is prepared again on another without its client noticing. Data only.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

from workers.sql.broker.frames import DESCRIBE_PORTAL, EXECUTE_ALL, SIZE, SYNC, bind_nothing, message, parse
from workers.sql.policy.session import Forward, Own, SessionVerdict, Several, plain_parameter_types

_numbers = itertools.count(1)
_IN_ONE_TURN = frozenset({"select", "insert", "update", "delete", "merge", "copy-out"})
MOST_SIGNATURES = 16
"""Lists of parameter types that are kept for one text; a client that declares more has each prepared anew."""


class ServerStatement:
    """One printed text with one list of declared parameter types."""

    __slots__ = (
        "_bind_start",
        "close_frame",
        "cost",
        "costed_until_s",
        "declared",
        "describe_frame",
        "is_accepted",
        "is_copy_in",
        "name",
        "parse_frame",
        "run_frames",
        "sql",
        "start_frames",
        "vetted_until_s",
    )

    def __init__(self, sql: str, types: bytes = b"\0\0", kind: str = "") -> None:
        self.name = b"sandpool_%d" % next(_numbers)
        self.sql = sql
        self.is_accepted = False
        """Whether a server prepared it once."""
        self.is_copy_in = kind == "copy-in"
        self.declared = int.from_bytes(types[:2], "big")
        """How many parameter types its client declared."""
        self.cost: float | None = None
        self.costed_until_s = 0.0
        """Until when the planner's estimate counts."""
        self.vetted_until_s = 0.0
        """Until when it may run without a look at its cost."""
        self.parse_frame = parse(self.name, sql.encode(), types)
        self.start_frames = bind_nothing(self.name) + DESCRIBE_PORTAL + EXECUTE_ALL
        """Bind, Describe and Execute, for a statement without parameters."""
        self.run_frames = self.start_frames + SYNC
        self._bind_start = b"\0" + self.name + b"\0"
        self.describe_frame = message(b"D", b"S" + self.name + b"\0")
        self.close_frame = message(b"C", b"S" + self.name + b"\0")

    def bind_frames(self, data: bytes, start: int, end: int) -> bytes:
        """Bind to the unnamed portal, with the parameters that the client's own Bind has from `start` to `end`, and
        whatever follows there."""
        named = self._bind_start
        return b"B" + SIZE.pack(4 + len(named) + end - start) + named + data[start:]


class Ruling:
    """A verdict with what carrying it out needs, kept for the next time that the same text comes."""

    __slots__ = ("_by_types", "parts", "record", "record_bytes", "statement", "text", "turn", "verdict")

    def __init__(self, text: str, verdict: SessionVerdict) -> None:
        self.text = text
        self.verdict = verdict
        sql = verdict.sql if isinstance(verdict, Forward | Own) else ""
        kind = verdict.kind if isinstance(verdict, Forward) else ""
        self.record = b""
        """Its part of a record, once it was written."""
        self.record_bytes = len(text) + len(sql) + 120
        """What a record of it takes, roughly."""
        self.statement: ServerStatement | None = ServerStatement(sql, kind=kind) if sql else None
        self.turn = self.statement if kind in _IN_ONE_TURN else None
        """The statement, where it may run in a turn of its own without a closer look."""
        self.parts: tuple[Ruling, ...] = ()
        """One for each of several statements."""
        if isinstance(verdict, Several):
            self.parts = tuple(Ruling(text, part) for part in verdict.parts)
        self._by_types: OrderedDict[bytes, ServerStatement] = OrderedDict()

    def statement_with(self, types: bytes) -> ServerStatement | None:
        """For a text whose parameters have these declared types, less those that could tell names."""
        types = plain_parameter_types(types)
        if types == b"\0\0" or self.statement is None:
            return self.statement
        found = self._by_types.get(types)
        if found is None:
            found = self._by_types[types] = ServerStatement(self.statement.sql, types)
            if len(self._by_types) > MOST_SIGNATURES:
                self._by_types.popitem(last=False)
        return found


class Prepared:
    """A statement as one session named it."""

    __slots__ = ("ruling", "statement")

    def __init__(self, ruling: Ruling, statement: ServerStatement | None) -> None:
        self.ruling = ruling
        self.statement = statement
