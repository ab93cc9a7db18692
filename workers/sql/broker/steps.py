"""What the server owes: one step for each message sent to it that it answers, in order. Data only.

`session` appends steps as it sends messages, `backend` takes them off as the answers come. A step that is not shown
belongs to the broker alone: its answer never reaches the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from workers.sql.broker.prepared import Ruling, ServerStatement

Undo = Callable[[], Any]

PARSE: Final = 1
BIND: Final = 2
CLOSE: Final = 3
DESCRIBE: Final = 4
EXECUTE: Final = 5
SYNC: Final = 6
CONTROL: Final = 7
"""A simple query of the broker's own."""
LOCAL: Final = 8
"""Nothing owed by the server: bytes of the broker's own that wait for their turn."""
TURN: Final = 9
"""All of a turn: Bind, perhaps Describe, Execute and Sync in one message, of a statement that the server knows."""
ENDED_BY_READY: Final = frozenset({SYNC, CONTROL, TURN})

ENDS: Final = bytearray(256)
"""Type of an answer -> the kind of step that it completes; 0: none."""
for _types, _kind in ((b"1", PARSE), (b"2", BIND), (b"3", CLOSE), (b"Tn", DESCRIBE), (b"CsI", EXECUTE), (b"Z", SYNC)):
    for _type in _types:
        ENDS[_type] = _kind


class Step:
    """One answer to come."""

    __slots__ = ("hides_absence", "is_shown", "kind")

    def __init__(self, kind: int, *, is_shown: bool, hides_absence: bool = False) -> None:
        self.kind = kind
        self.is_shown = is_shown
        self.hides_absence = hides_absence
        """The simple protocol tells columns, but not that there are none."""

    @property
    def sql(self) -> str:
        """The client's own text, where this answers one."""
        return ""

    def complete(self, frame: bytes) -> bytes | None:  # noqa: ARG002 - for those who want to see it
        """It was answered, by this whole message where it is a command's end. What to show instead, if anything."""
        return None

    def drop(self, sqlstate: str) -> None:
        """It failed (`sqlstate`), or was skipped because one before it failed (empty)."""


class ParseStep(Step):
    """A statement that the server shall know; `undo` when it does not."""

    __slots__ = ("statement", "substitute", "undo")

    def __init__(
        self, undo: Undo, statement: ServerStatement | None = None, *, is_shown: bool, substitute: bytes = b""
    ) -> None:
        super().__init__(PARSE, is_shown=is_shown)
        self.undo = undo
        self.statement = statement
        self.substitute = substitute
        """Shown in place of the server's error."""

    @property
    def sql(self) -> str:
        return self.statement.sql if self.statement is not None else ""

    def complete(self, frame: bytes) -> bytes | None:  # noqa: ARG002 - overrides
        if self.statement is not None:
            self.statement.is_accepted = True
        return None

    def drop(self, sqlstate: str) -> None:  # noqa: ARG002 - overrides
        self.undo()


class Execution(Step):
    """A statement that runs."""

    __slots__ = ("note", "ruling", "started_s", "substitute", "tag")

    def __init__(self, note: Note, ruling: Ruling, started_s: float, tag: bytes = b"") -> None:
        super().__init__(EXECUTE, is_shown=True)
        self.note = note
        """Called at its end: with its command tag, or with a SQLSTATE."""
        self.ruling = ruling
        self.started_s = started_s
        self.tag = tag
        """CommandComplete to show instead of the server's."""
        self.substitute = b""
        """The error to show instead of whatever else comes: it was cut off."""

    def complete(self, frame: bytes) -> bytes | None:
        self.note(self, frame[5:-1], "")
        return self.substitute or (self.tag if frame else None) or None

    def drop(self, sqlstate: str) -> None:
        if sqlstate:
            self.note(self, b"", sqlstate)

    @property
    def sql(self) -> str:
        return self.ruling.text


Note = Callable[[Execution, bytes, str], None]


class Turn(Execution):
    """A whole turn. For the simple protocol it `hides_absence` of columns, and that something was bound."""

    __slots__ = ("prefix",)

    def __init__(self, note: Note, ruling: Ruling, started_s: float, prefix: bytes, *, is_simple: bool) -> None:
        self.kind = TURN
        self.is_shown = True
        self.hides_absence = is_simple
        self.note = note
        self.ruling = ruling
        self.started_s = started_s
        self.tag = self.substitute = b""
        self.prefix = prefix
        """To be shown before anything else: ParseComplete."""


class EstimateStep(Step):
    """EXPLAIN of the broker's own. `ended` is called with the first row of its answer; with None where it failed."""

    __slots__ = ("_sql", "ended", "row")

    def __init__(self, ended: Callable[[bytes | None], Any], sql: str) -> None:
        super().__init__(EXECUTE, is_shown=False)
        self.ended = ended
        self.row: bytes | None = None
        self._sql = sql

    @property
    def sql(self) -> str:
        return self._sql

    def complete(self, frame: bytes) -> bytes | None:  # noqa: ARG002 - overrides
        self.ended(self.row or b"")
        return None

    def drop(self, sqlstate: str) -> None:  # noqa: ARG002 - overrides
        self.ended(None)


class LocalStep(Step):
    """Bytes for the client, in their place between the server's answers."""

    __slots__ = ("data", "undo")

    def __init__(self, data: bytes, undo: Undo | None = None) -> None:
        super().__init__(LOCAL, is_shown=True)
        self.data = data
        self.undo = undo

    def drop(self, sqlstate: str) -> None:  # noqa: ARG002 - overrides
        if self.undo is not None:
            self.undo()


class ControlStep(Step):
    """Tells its owner how it went: `ended` is called with the SQLSTATE of an error, or an empty text."""

    __slots__ = ("ended", "sqlstate")

    def __init__(self, ended: Callable[[str], Any]) -> None:
        super().__init__(CONTROL, is_shown=False)
        self.ended = ended
        self.sqlstate = ""

    def complete(self, frame: bytes) -> bytes | None:  # noqa: ARG002 - overrides
        self.ended(self.sqlstate)
        return None

    def drop(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


BIND_HIDDEN: Final = Step(BIND, is_shown=False)
BIND_SHOWN: Final = Step(BIND, is_shown=True)
CLOSE_HIDDEN: Final = Step(CLOSE, is_shown=False)
CLOSE_SHOWN: Final = Step(CLOSE, is_shown=True)
DESCRIBE_HIDDEN: Final = Step(DESCRIBE, is_shown=False)
DESCRIBE_SHOWN: Final = Step(DESCRIBE, is_shown=True)
DESCRIBE_ROWS: Final = Step(DESCRIBE, is_shown=True, hides_absence=True)
EXECUTE_HIDDEN: Final = Step(EXECUTE, is_shown=False)
SYNC_SHOWN: Final = Step(SYNC, is_shown=True)
SYNC_HIDDEN: Final = Step(SYNC, is_shown=False)
COPY_END: Final = LocalStep(b"")
"""Here the client ended its rows before it was asked for them: a Sync behind it counts."""
NOTHING: Final = Step(-1, is_shown=False)
"""In front of an empty line: nothing is owed."""
