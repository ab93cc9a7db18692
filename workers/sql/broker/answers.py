"""The server's answers as they arrive, matched with what is owed: which bytes the client is shown. Pure.

The hot path of the broker: `feed` walks from header to header, rows pass without being looked at. Whole messages only
are let through, except for long rows, so that an error of the broker's own can always follow. Used by `backend`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, cast

from workers.sql.broker import steps
from workers.sql.broker.frames import BIND_COMPLETE, HEADER_BYTES, READY, SIZE
from workers.sql.broker.remarks import shown_error, shown_notice
from workers.sql.broker.steps import NOTHING, EstimateStep, Execution, LocalStep, ParseStep, Step, Turn

STREAM_BYTES = 64 * 1024
"""A row longer than this is let through in pieces."""
MOST_BYTES = 1 << 30
MOST_OTHER_BYTES = 4 << 20
"""Longest message of the server that carries no data."""
_DATA: Final = frozenset(b"Dd")
READY_ENDS: Final = tuple(READY.values())
READY_BYTES: Final = len(READY["I"])
_D, _Z, _E, _N, _S, _A, _G, _C, _T, _2 = b"DZENSAGCT2"
_PASSING: Final = frozenset(b"tHdc")
"""Parts of an answer that complete no step."""
_OF_CONTROL: Final = frozenset(b"TDC")
_IN_TURN: Final = frozenset(b"2TnsI")
_HIDDEN_IN_TURN: Final = frozenset(b"2n")


def unchanged(status: str) -> str:
    """The status that ReadyForQuery shall tell, where nobody knows better than the server."""
    return status


class Answers:
    """The stream from one server."""

    __slots__ = (
        "_base", "_mark", "_skip_is_shown", "_tail", "claim", "has_copy_in", "has_failed", "is_broken", "is_stuck",
        "is_told", "parameters", "shown_bytes", "skip", "status", "steps", "tag",
    )  # fmt: skip

    def __init__(self) -> None:
        self.steps: deque[Step] = deque()
        """What is owed, in order."""
        self.status = "I"
        """Transaction status as the server last said: I, T or E."""
        self.claim: Callable[[str], str] = unchanged
        self.parameters: dict[str, str] = {}
        """Settings that the server reported since they were last looked at."""
        self.skip = 0
        """Bytes that are still missing of a row which is let through in pieces."""
        self.shown_bytes = 0
        """Size of the answer to the last statement that ended."""
        self.tag = b""
        """Its command tag, where it was a whole turn."""
        self.has_failed = self.has_copy_in = False
        """Since they were last looked at: an error came; the server waits for rows."""
        self.is_broken = False
        """What comes makes no sense: nothing can be trusted any more."""
        self.is_told = False
        """Whether the client was told already why this turn failed."""
        self.is_stuck = False
        """Something failed for which no Sync was sent yet: the server passes over everything up to one."""
        self._skip_is_shown = False
        self._tail = b""
        self._base = 0
        """Bytes of the stream before those at hand."""
        self._mark = 0
        """Where in the stream the last step was completed."""

    @property
    def result_bytes(self) -> int:
        """Size so far of the answer that is coming in."""
        return self._base - self._mark

    def feed(self, data: bytes) -> bytes:
        """What to show of it."""
        pieces: list[bytes] = []
        if self.skip:
            data = self._pass_on(data, pieces)
        if self._tail:
            data = self._tail + data
            self._tail = b""
        line = self.steps
        step = line[0] if line else NOTHING
        position = start = 0
        end = len(data)
        size_at = SIZE.unpack_from
        while end - position >= HEADER_BYTES:
            kind = data[position]
            following = position + 1 + size_at(data, position + 1)[0]
            if following > end:
                break
            if kind == _D and step.is_shown:
                position = following
                continue
            kept: bytes | None = None
            is_shown = step.is_shown
            if following < position + HEADER_BYTES:
                self.is_broken = True
                return b""
            if step.kind == steps.TURN and kind != _Z:
                turn = cast(Turn, step)
                if turn.prefix:
                    pieces += (data[start:position], turn.prefix)
                    start, turn.prefix = position, b""
                if kind == _C:
                    self.shown_bytes = self._base + position - self._mark
                    kept = turn.complete(data[position:following])
                    is_shown = is_shown or kept is not None
                elif kind not in _IN_TURN:
                    kept, is_shown = self._other(step, kind, data[position + 5 : following])
                elif turn.hides_absence and kind in _HIDDEN_IN_TURN:
                    is_shown = False
            elif steps.ENDS[kind] == step.kind or (kind == _Z and step.kind in steps.ENDED_BY_READY):
                line.popleft()
                if kind == _Z:
                    self.status = chr(data[position + 5])
                    self.is_told = self.is_stuck = False
                    if step.kind == steps.TURN and cast(Turn, step).substitute:
                        is_shown = True  # what was cut off is hidden, its end is not
                    if is_shown and (claimed := self.claim(self.status)) != self.status:
                        kept = READY[claimed]
                elif kind == _C:
                    self.shown_bytes = self._base + position - self._mark
                if step.hides_absence and kind != _T and kind != _Z:
                    is_shown = False
                if step.kind != steps.TURN and (
                    instead := step.complete(data[position:following] if kind == _C else b"")
                ):
                    kept, is_shown = instead, True
                self._mark = self._base + following
            else:
                kept, is_shown = self._other(step, kind, data[position + 5 : following])
            if self.is_broken:
                return b""
            if kept is not None or not is_shown:
                if start < position:
                    pieces.append(data[start:position])
                if kept is not None and is_shown:
                    pieces.append(kept)
                start = following
            position = following
            step = line[0] if line else NOTHING
            while step.kind == steps.LOCAL:
                pieces += (data[start:position], cast(LocalStep, step).data)
                start = position
                line.popleft()
                step = line[0] if line else NOTHING
        self._base += position
        if position < end:
            if self._is_long_row(data, position, step):
                if not step.is_shown:
                    pieces.append(data[start:position])
                    start = end
                position = end
            else:
                self._tail = data[position:]
        if not pieces:
            return data if start == 0 and position == end else data[start:position]
        if start < position:
            pieces.append(data[start:position])
        return b"".join(pieces)

    def whole_turn(self, turn: Turn, data: bytes) -> bytes:
        """What to show where the data, which end with ReadyForQuery, are all of the answer to this turn, the only one
        that is owed, and nothing else; else nothing, and nothing was done."""
        if self._tail or self.skip or turn.substitute:
            return b""
        position = 0
        end = len(data)
        last = end - READY_BYTES
        size_at = SIZE.unpack_from
        tag_at = tag_end = 0
        while position < last:
            kind = data[position]
            following = position + 1 + size_at(data, position + 1)[0]
            if kind == _C:
                tag_at, tag_end = position, following
            elif (kind != _D and kind != _T and kind != _2) or following < position + HEADER_BYTES:
                return b""
            position = following
        if position != last or not tag_end:
            return b""
        status = chr(data[-1])
        if self.claim(status) != status:
            return b""
        self.steps.popleft()
        self.status = status
        self.is_told = False
        self.shown_bytes = self._base + tag_at - self._mark
        self.tag = data[tag_at + 5 : tag_end - 1]
        self._mark = self._base = self._base + end
        if turn.prefix:
            return turn.prefix + data
        return data[5:] if turn.hides_absence and data.startswith(BIND_COMPLETE) else data

    def _is_long_row(self, data: bytes, position: int, step: Step) -> bool:
        """Whether the message that begins here, and does not end here, is let through as far as it came."""
        here = len(data) - position
        if here < HEADER_BYTES:
            return False
        kind = data[position]
        length = SIZE.unpack_from(data, position + 1)[0]
        self.is_broken = not 4 <= length <= (MOST_BYTES if kind in _DATA else MOST_OTHER_BYTES)
        if self.is_broken or kind not in _DATA or length <= STREAM_BYTES:
            return False
        self.skip = length + 1 - here
        self._skip_is_shown = step.is_shown
        self._base += length + 1
        return True

    def _pass_on(self, data: bytes, pieces: list[bytes]) -> bytes:
        """The next piece of a long row; what follows it."""
        piece, rest = data[: self.skip], data[self.skip :]
        self.skip -= len(piece)
        if self._skip_is_shown:
            pieces.append(piece)
        return rest

    def _other(self, step: Step, kind: int, body: bytes) -> tuple[bytes | None, bool]:
        """What neither completes a step nor is a row: what to show in its place, and whether to show anything."""
        if kind == _E:
            return self._error(step, body)
        if kind == _D and isinstance(step, EstimateStep):
            step.row = step.row or body
            return None, False
        if kind in _PASSING or (step.kind == steps.CONTROL and kind in _OF_CONTROL):
            return None, step.is_shown
        if kind == _N:
            said = shown_notice(body) if step.is_shown else b""
            return said, bool(said)
        if kind == _S:
            name, _, value = body.rstrip(b"\0").partition(b"\0")
            self.parameters[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        elif kind == _G:
            self._begin_copy()
            return None, step.is_shown
        elif kind != _A:
            self.is_broken = True
        return None, False

    def _begin_copy(self) -> None:
        """What was sent between COPY and the end of its rows is read as part of it, where Sync means nothing."""
        owed = list(self.steps)
        self.has_copy_in = steps.COPY_END not in owed
        end = len(owed) if self.has_copy_in else owed.index(steps.COPY_END)
        self.steps.clear()
        self.steps.extend([each for each in owed[:end] if each.kind != steps.SYNC] + owed[end + 1 :])

    def _error(self, step: Step, body: bytes) -> tuple[bytes | None, bool]:
        """The error in place of the server's. Everything up to the next Sync was skipped."""
        kept, sqlstate = shown_error(body, step.sql)
        if isinstance(step, ParseStep | Execution) and step.substitute:
            kept = step.substitute
        if step is NOTHING:
            # Said out of turn, before the server hangs up: whoever holds the connection is told by its loss.
            return None, False
        is_shown = step.kind != steps.CONTROL
        line = self.steps
        while line and line[0].kind not in steps.ENDED_BY_READY:
            line.popleft().drop(sqlstate)
            sqlstate = ""
        if line and line[0].kind != steps.SYNC:
            line[0].drop(sqlstate)
        self.is_stuck = not line
        self.is_told = is_shown
        self.has_failed = True
        return kept, is_shown
