"""One connection to the real server, as raw protocol: answers are relayed as bytes, rows are never decoded.

Lent by `lender` to one session at a time. `steps` says what the server owes; each answer is shown to the holder,
hidden, or replaced (errors lose what could quote a row). Whole messages only are handed on, except for long rows, so
that an error of the broker's own can always follow. The server's own timeouts and its read-only default are pinned at
log-on; a server that reports another default is not used any further.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final, Protocol

from workers.errors import DatabaseUnavailable
from workers.sql.broker import steps
from workers.sql.broker.address import Address, read_dsn
from workers.sql.broker.frames import COPY_FAIL, READY, SIZE, SYNC, TERMINATE, clean, message
from workers.sql.broker.logon import Logon, log_on, send_cancel
from workers.sql.broker.prepared import ServerStatement
from workers.sql.broker.remarks import shown_error, shown_notice
from workers.sql.broker.steps import NOTHING, SYNC_HIDDEN, ControlStep, Execution, ParseStep, Step
from workers.sql.spec import PoolSpec

STREAM_BYTES = 64 * 1024
"""A row longer than this is handed on in pieces."""
MOST_BYTES = 1 << 30
MOST_OTHER_BYTES = 4 << 20
"""Longest message of the server that carries no data."""
CANCEL_DEADLINE_S = 5.0
RECOVER_DEADLINE_S = 3.0
MOST_STATEMENTS = 200
"""Prepared on one connection."""
_DATA: Final = frozenset(b"Dd")
_READ_ONLY = "default_transaction_read_only"
_D, _Z, _E, _N, _S, _A, _G, _H, _C, _T, _W = b"DZENSAGHCTW"
_PASSING = frozenset(b"tHdc")
"""Parts of an answer that complete no step."""


class Holder(Protocol):
    """A session, as far as its connection knows it. Nothing here may raise."""

    def show(self, data: bytes) -> None: ...
    def failed(self) -> None: ...
    def ready(self) -> None: ...
    def copy_in(self) -> None: ...
    def lost(self, owed: list[Step], *, is_told: bool, is_torn: bool) -> None: ...
    def overflow(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    @property
    def ready_status(self) -> str: ...


class Backend(asyncio.Protocol):
    """One server connection: the lender's `Loan`."""

    def __init__(self, spec: PoolSpec, address: Address, logon: Logon) -> None:
        self.tenant: str | None = None
        self.holder: Holder | None = None
        self.steps: deque[Step] = deque()
        self.status = "I"
        """Transaction status as the server last said: I, T or E."""
        self.known: OrderedDict[ServerStatement, None] = OrderedDict()
        """Statements prepared here, the least recently used first."""
        self.wish: tuple[tuple[str, str], ...] = ()
        """Settings beyond the pinned ones that are in force here."""
        self.parameters = logon.parameters
        self.max_bytes = 0
        """Most bytes of one result; 0: no limit."""
        self.shown_bytes = 0
        """Size of the answer to the last statement that ended."""
        self._writes = spec.writes
        self._address = address
        self._key = logon.key
        self._writer = logon.writer
        self._transport = logon.transport
        self._tail = b""
        self._skip = 0
        """Bytes that are still missing of a row which is handed on in pieces."""
        self._skip_is_shown = False
        self._told = False
        """Whether the client was told already why this turn failed."""
        self._mark = 0
        self._base = 0
        self._is_closed = False
        self._emptied: asyncio.Future[None] | None = None
        self._cancelling: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, spec: PoolSpec) -> Backend:
        """Connect. Raises workers.errors."""
        address = read_dsn(spec.dsn)
        logon = await log_on(address, spec.wire_settings, spec.connect_timeout_s)
        backend = cls(spec, address, logon)
        logon.transport.set_protocol(backend)
        return backend

    # --- the lender's side ---------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return not self._is_closed

    async def reset_for(self, tenant: str) -> None:
        """Forget everything that the last tenant may have left. Raises DatabaseUnavailable."""
        if self.tenant is not None and self.tenant != tenant:
            await self.control("DISCARD ALL")
            self.known.clear()
            self.wish = ()
        self.tenant = tenant

    async def close(self) -> None:
        """Say goodbye, or hang up where something is still owed. Never raises."""
        if not self._is_closed:
            self._is_closed = True
            if self.steps or self.status != "I":
                self._transport.abort()
            else:
                self._transport.write(TERMINATE)
                self._transport.close()

    async def control(self, constant: str) -> None:
        """A simple query of the broker's own (constants only), outside of any client's turn. Raises
        DatabaseUnavailable."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def end(sqlstate: str) -> None:
            if not ended.done():
                ended.set_result(sqlstate)

        self.steps.append(ControlStep(end))
        self.send(message(b"Q", clean(constant)))
        if self._is_closed:
            raise DatabaseUnavailable("the connection to the database was lost")
        if await ended:
            self.break_off()
            raise DatabaseUnavailable("the connection to the database could not be reset")

    # --- the session's side --------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes for the server; `steps` already holds what it will owe for them."""
        if not self._is_closed:
            self._transport.write(data)

    def make_room(self) -> bytes:
        """What closes the statements that were not used for longest; only between two turns."""
        frames = []
        while len(self.known) > MOST_STATEMENTS:
            statement, _ = self.known.popitem(last=False)
            frames.append(statement.close_frame)
            self.steps.append(steps.CLOSE_HIDDEN)
        return b"".join(frames)

    def pause_reading(self) -> None:
        if not self._is_closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_closed:
            self._transport.resume_reading()

    def cancel(self) -> None:
        """Have the server cancel what runs here now. The connection is not lent on before the server was told."""
        if self._cancelling is None and not self._is_closed:
            work = send_cancel(self._address, self._key, CANCEL_DEADLINE_S)
            self._cancelling = asyncio.get_running_loop().create_task(work)

    @property
    def needs_recovery(self) -> bool:
        """Whether anything is left to be done before another may use it."""
        return bool(self.steps) or self.status != "I" or self._cancelling is not None or bool(self._skip)

    async def recover(self, *, is_copying: bool = False, is_unsynced: bool = False) -> bool:
        """End whatever the last holder left running, within a deadline; False: hang up, this cannot be used again."""
        self.holder = None
        self.resume_reading()
        try:
            async with asyncio.timeout(RECOVER_DEADLINE_S):
                if self.steps and not is_copying and self._cancelling is None:
                    self.cancel()
                if is_copying or is_unsynced:
                    self.steps.append(SYNC_HIDDEN)
                    self.send((COPY_FAIL if is_copying else b"") + SYNC)
                await self._settled()
                if self._cancelling is not None:
                    await self._cancelling
                    # A signal that came late meets an empty turn, not the next holder's statement.
                    self._cancelling = None
                    self.steps.append(SYNC_HIDDEN)
                    self.send(SYNC)
                    await self._settled()
                if self.status != "I":
                    await self.control("ROLLBACK")
        except (TimeoutError, DatabaseUnavailable):
            self.break_off()
        return self.is_open and self.status == "I"

    def break_off(self) -> None:
        """Hang up now; the server notices by itself."""
        if not self._is_closed:
            self._is_closed = True
            self._transport.abort()

    async def _settled(self) -> None:
        """Until the server owes nothing. Raises DatabaseUnavailable when it is gone."""
        while self.steps and not self._is_closed:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        if self._is_closed:
            raise DatabaseUnavailable("the connection to the database was lost")

    # --- the server's side ---------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        if self.holder is not None:
            self.holder.pause()

    def resume_writing(self) -> None:
        if self.holder is not None:
            self.holder.resume()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, _exc: Exception | None) -> None:
        self._is_closed = True
        holder, self.holder = self.holder, None
        owed = list(self.steps)
        self.steps.clear()
        for step in owed:
            step.drop("08006")
            if step.kind == steps.CONTROL:
                step.complete(b"")
        self._wake()
        if holder is not None:
            holder.lost(owed, is_told=self._told, is_torn=bool(self._skip))

    def data_received(self, data: bytes) -> None:
        """Walk over the answers: the hot path. Rows pass without being looked at."""
        if self._skip:
            data = self._pass_on(data)
        if self._tail:
            data = self._tail + data
            self._tail = b""
        line = self.steps
        step = line[0] if line else NOTHING
        position = start = 0
        end = len(data)
        pieces: list[bytes] = []
        size_at = SIZE.unpack_from
        ends = steps.ENDS
        while end - position >= 5:
            kind = data[position]
            following = position + 1 + size_at(data, position + 1)[0]
            if following > end:
                break
            if kind == _D and step.is_shown:
                position = following
                continue
            kept: bytes | None = None
            is_shown = step.is_shown
            completes = ends[kind] == step.kind or (kind == _Z and step.kind == steps.CONTROL)
            if following < position + 5:
                self._out_of_step()
                return
            if completes:
                line.popleft()
                if kind == _Z:
                    self.status = chr(data[position + 5])
                    self._told = False
                    if is_shown and self.holder is not None and self.holder.ready_status != self.status:
                        kept = READY[self.holder.ready_status]
                elif kind == _C:
                    self.shown_bytes = self._base + position - self._mark
                if step.hides_absence and kind != _T:
                    is_shown = False
                if (instead := step.complete(data[position:following] if kind == _C else b"")) is not None:
                    kept, is_shown = instead, True
                self._mark = self._base + following
            elif kind == _E:
                kept, is_shown = self._error(step, data[position + 5 : following])
            elif kind == _G:
                # What was sent behind COPY is read as part of it, where Sync means nothing.
                behind = [each for each in line if each.kind != steps.SYNC]
                line.clear()
                line.extend(behind)
                if self.holder is not None:
                    self.holder.copy_in()
            elif kind not in _PASSING and not (step.kind == steps.CONTROL and kind in b"TDC"):
                kept, is_shown = self._aside(kind, data[position + 5 : following], is_shown=is_shown)
                if self._is_closed:
                    return
            if kept is not None or not is_shown:
                if start < position:
                    pieces.append(data[start:position])
                if kept is not None and is_shown:
                    pieces.append(kept)
                start = following
            position = following
            step = line[0] if line else NOTHING
            while step.kind == steps.LOCAL:
                if start < position:
                    pieces.append(data[start:position])
                    start = position
                line.popleft()
                pieces.append(step.data)  # type: ignore[attr-defined]
                step = line[0] if line else NOTHING
        self._base += position
        self._rest(data, start, position, step, pieces)
        if not line:
            if self._emptied is not None:
                self._wake()
            if self.holder is not None:
                self.holder.ready()
        elif self.max_bytes and self._base - self._mark > self.max_bytes and self.holder is not None:
            self.holder.overflow()

    def _rest(self, data: bytes, start: int, position: int, step: Step, pieces: list[bytes]) -> None:
        """Show what is complete and keep what is not; a long row is handed on as far as it came."""
        end = len(data)
        if position < end:
            if end - position >= 5:
                kind = data[position]
                length = SIZE.unpack_from(data, position + 1)[0]
                most = MOST_BYTES if kind in _DATA else MOST_OTHER_BYTES
                if not 4 <= length <= most:
                    self.break_off()
                elif kind in _DATA and length > STREAM_BYTES:
                    self._skip = length + 1 - (end - position)
                    self._skip_is_shown = step.is_shown
                    self._base += length + 1
                    if not step.is_shown:
                        data, end = data[:position], position
                    position = end
            self._tail = data[position:]
        if self.holder is None:
            return
        if not pieces and start == 0 and position == end:
            if end:
                self.holder.show(data)
            return
        if start < position:
            pieces.append(data[start:position])
        if pieces:
            self.holder.show(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _pass_on(self, data: bytes) -> bytes:
        """The next piece of a long row; what follows it."""
        piece, rest = data[: self._skip], data[self._skip :]
        self._skip -= len(piece)
        if self.holder is not None and self._skip_is_shown:
            self.holder.show(piece)
        return rest

    def _error(self, step: Step, body: bytes) -> tuple[bytes | None, bool]:
        """The error in place of the server's, and whether to show it. Everything up to the next Sync was skipped."""
        statement = getattr(step, "sql", "")
        kept, sqlstate = shown_error(body, statement)
        if isinstance(step, ParseStep) and step.substitute:
            kept = step.substitute
        # Not of a control's own: its owner is told by its end.
        is_shown = step.kind != steps.CONTROL
        if step is NOTHING:
            # Said out of turn, before the server hangs up.
            self._told = True
            return kept, True
        if isinstance(step, Execution) and step.substitute:
            kept = step.substitute
        state = sqlstate
        line = self.steps
        while line and line[0].kind not in (steps.SYNC, steps.CONTROL):
            line.popleft().drop(state)
            state = ""
        if line and line[0].kind == steps.CONTROL:
            line[0].drop(state)
        self._told = is_shown
        if self.holder is not None:
            self.holder.failed()
        return kept, is_shown

    def _aside(self, kind: int, body: bytes, *, is_shown: bool) -> tuple[bytes | None, bool]:
        """What the server says between answers."""
        if kind == _N:
            said = shown_notice(body) if is_shown else b""
            return said, bool(said)
        if kind == _S:
            name, value = (part.decode("utf-8", "replace") for part in body.split(b"\0")[:2])
            self.parameters[name] = value
            if name == _READ_ONLY and value != ("off" if self._writes else "on"):
                self._out_of_step()
            return None, False
        if kind == _A:
            return None, False
        self._out_of_step()
        return None, False

    def _out_of_step(self) -> None:
        """What comes makes no sense: it cannot be trusted any more."""
        self.break_off()
        self.connection_lost(None)

    def _wake(self) -> None:
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self._emptied = None
