"""The usual turn, carried out at once: all of it came in one piece, its statement is known, and nothing else goes on.

Drivers send little else: a Query, or Bind, Describe, Execute and Sync, perhaps behind Parse of the unnamed statement.
Such data are recognised by their bytes, sent on in one write, and the answer is relayed in one write: a third of what
the general way of `conversation` costs, to which everything goes that is not exactly this. Called by `session`.
"""

from __future__ import annotations

from abc import abstractmethod
from time import monotonic
from typing import Final

from workers.sql.broker.backend import MOST_STATEMENTS, Backend
from workers.sql.broker.conversation import Conversation
from workers.sql.broker.door import Door, Services
from workers.sql.broker.frames import DESCRIBE_PORTAL, EXECUTE_ALL, HEADER_BYTES, PARSE_COMPLETE, SIZE, SYNC
from workers.sql.broker.prepared import Prepared, ServerStatement
from workers.sql.broker.steps import Turn

TURN_END: Final = EXECUTE_ALL + SYNC
TURN_ENDS: Final = (DESCRIBE_PORTAL + TURN_END, TURN_END)
"""What may follow Bind in the usual turn."""
LEAST_BIND: Final = HEADER_BYTES + 2
_Q, _B, _P = b"QBP"


class Planned:
    """A turn that is ready to be sent."""

    __slots__ = ("frames", "is_simple", "prefix", "prepared")

    def __init__(self, prepared: Prepared, frames: bytes, prefix: bytes, *, is_simple: bool) -> None:
        self.prepared = prepared
        self.frames = frames
        self.prefix = prefix
        self.is_simple = is_simple


class Shortcut(Conversation):
    """A conversation that knows the usual turn."""

    def __init__(self, services: Services, door: Door) -> None:
        super().__init__(services, door)
        self.is_quiet = False
        """Nothing is owed to anybody, or half said: a usual turn may begin. Never true by mistake: whatever may change
        it clears it first, and `look` sets it again."""
        self.is_alone = False
        """The usual turn that runs is all that goes on."""

    @abstractmethod
    def lend(self) -> Backend | None:
        """A connection that is there at once."""

    @abstractmethod
    def wait(self, planned: Planned, data: bytes) -> bool:
        """Have this turn sent when there is a connection; False: it cannot be waited for."""

    # --- in ------------------------------------------------------------------------------------------------------

    def try_turn(self, data: bytes) -> bool:
        """Carry out a whole turn where the data are exactly one and `is_quiet`. False: nothing was done."""
        planned = self._plan(data)
        if planned is None:
            return False
        backend = self.backend
        if backend is not None:
            return self.send_turn(backend, planned)
        backend = self.lend()
        if backend is None:
            return self.wait(planned, data)
        return self.send_turn(backend, planned)

    def send_turn(self, backend: Backend, planned: Planned) -> bool:
        """By this connection, which is this session's from now on; False: it does not know the statement."""
        statement = planned.prepared.statement
        known = backend.known
        now_s = monotonic()
        is_unvetted = statement.vetted_until_s <= now_s  # type: ignore[union-attr]
        if self.backend is None:
            if backend.wish != self.wish or statement not in known or len(known) > MOST_STATEMENTS or is_unvetted:
                self.hold(backend)
                return False
            self.take(backend)
        elif statement not in known or is_unvetted:
            return False
        known.move_to_end(statement)  # type: ignore[arg-type]
        self.sent_s = now_s
        self.is_quiet = False
        self.is_alone = True
        ruling = planned.prepared.ruling
        backend.steps.append(Turn(self._note, ruling, now_s, planned.prefix, is_simple=planned.is_simple))
        backend.send(planned.frames)
        return True

    def _plan(self, data: bytes) -> Planned | None:
        kind = data[0]
        turns = self.door.rulings.turns
        if kind == _Q:
            prepared = turns.get(data) or self._learn_query(data)
            if prepared is None:
                return None
            return Planned(prepared, prepared.statement.run_frames, b"", is_simple=True)  # type: ignore[union-attr]
        if len(data) < HEADER_BYTES or (kind != _P and kind != _B) or not data.endswith(TURN_END):
            return None
        if kind == _P:
            size = SIZE.unpack_from(data, 1)[0] + 1
            head = data[:size]
            prepared = turns.get(head) or self._learn_parse(head)
            # Of the unnamed statement, by the unnamed portal.
            if (
                prepared is None
                or len(data) < size + LEAST_BIND
                or data[size] != _B
                or data[size + 5]
                or data[size + 6]
            ):
                return None
            frames = _bound(prepared.statement, data, size, size + 7)
            if not frames:
                return None
            self._statements[b""] = prepared
            return Planned(prepared, frames, PARSE_COMPLETE, is_simple=False)
        name_end = data.find(0, 6)
        prepared = self._statements.get(data[6:name_end])
        if prepared is None or prepared.ruling.turn is None or data[5] or name_end < 0:
            return None
        frames = _bound(prepared.statement, data, 0, name_end + 1)
        return Planned(prepared, frames, b"", is_simple=False) if frames else None

    def _learn_query(self, data: bytes) -> Prepared | None:
        rulings = self.door.rulings
        if len(data) <= HEADER_BYTES or SIZE.unpack_from(data, 1)[0] + 1 != len(data) or data[-1]:
            return None
        ruling = rulings.known(data[5:-1], "simple")
        if ruling is None or ruling.turn is None:
            return None
        return rulings.keep_turn(data, Prepared(ruling, ruling.turn))

    def _learn_parse(self, head: bytes) -> Prepared | None:
        rulings = self.door.rulings
        end = head.find(0, 6)
        if len(head) <= HEADER_BYTES or head[5] or end < 0:
            return None
        ruling = rulings.known(head[6:end], "extended")
        if ruling is None or ruling.turn is None:
            return None
        return rulings.keep_turn(head, Prepared(ruling, ruling.statement_with(head[end + 1 :])))

    # --- out -----------------------------------------------------------------------------------------------------

    def end_turn(self, turn: Turn, tag: bytes, shown: bytes) -> None:
        """All of a usual turn's answer came in one piece."""
        backend = self.backend
        assert backend is not None
        answers = backend.answers
        self.show(shown)
        ended_s = monotonic()
        self.door.trail.ran(turn.ruling, tag, "", answers.shown_bytes, ended_s - turn.started_s, ended_s)
        if not self.is_alone:
            self.ready()
            return
        self.is_quiet = True
        if answers.status == "I":
            self._transaction.is_open = False
            if self._portals:
                self._portals.clear()
            self.backend = None
            self.give_back(backend)


def _bound(statement: ServerStatement | None, data: bytes, at: int, start: int) -> bytes:
    """Bind (at `at`, its formats and values from `start` on) and what follows it, for the server; empty where this is
    not all of a usual turn."""
    stop = at + 1 + SIZE.unpack_from(data, at + 1)[0]
    if start > stop or statement is None or data[stop:] not in TURN_ENDS:
        return b""
    return statement.bind_frames(data, start, stop)
