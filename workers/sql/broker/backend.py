"""One connection to the real server, as raw protocol: answers are relayed as bytes, rows are never decoded.

Lent by `lender` to one session at a time. `steps` says what the server owes; each answer is shown to the holder,
hidden, or replaced (errors lose what could quote a row). Whole messages only are handed on, except for long rows, so
that an error of the broker's own can always follow. The server's own timeouts and its read-only default are pinned at
log-on; a server that reports another default is not used any further.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol, cast

from workers.errors import DatabaseUnavailable
from workers.sql.broker import steps
from workers.sql.broker.address import Address, read_dsn
from workers.sql.broker.answers import READY_ENDS, Answers, unchanged
from workers.sql.broker.frames import COPY_FAIL, SYNC, TERMINATE, clean, message
from workers.sql.broker.logon import Logon, log_on, send_cancel
from workers.sql.broker.prepared import ServerStatement
from workers.sql.broker.steps import SYNC_HIDDEN, ControlStep, Step, Turn
from workers.sql.spec import PoolSpec

CANCEL_DEADLINE_S = 5.0
RECOVER_DEADLINE_S = 3.0
MOST_STATEMENTS = 200
"""Prepared on one connection."""
_READ_ONLY = "default_transaction_read_only"


class Holder(Protocol):
    """A session, as far as its connection knows it. Nothing here may raise."""

    is_swamped: bool

    def relieve(self) -> None: ...

    def show(self, data: bytes) -> None: ...
    def failed(self) -> None: ...
    def ready(self) -> None: ...
    def end_turn(self, turn: Turn, tag: bytes, shown: bytes) -> None: ...
    def copy_in(self) -> None: ...
    def lost(self, owed: list[Step], *, is_told: bool, is_torn: bool) -> None: ...
    def overflow(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def claim(self, status: str) -> str: ...


class Backend(asyncio.Protocol):
    """One server connection: the lender's `Loan`."""

    def __init__(self, spec: PoolSpec, address: Address, logon: Logon) -> None:
        self.tenant: str | None = None
        self.holder: Holder | None = None
        """Whose turn it is. Set by `attach`, taken away by `detach`."""
        self.answers = Answers()
        self.steps = self.answers.steps
        self.known: OrderedDict[ServerStatement, None] = OrderedDict()
        """Statements prepared here, the least recently used first."""
        self.wish: tuple[tuple[str, str], ...] = ()
        """Settings beyond the pinned ones that are in force here."""
        self.parameters = logon.parameters
        self.max_bytes = 0
        """Most bytes of one result; 0: no limit."""
        self.is_open = True
        self._is_paused = False
        self._read_only = "off" if spec.writes else "on"
        self._address = address
        self._key = logon.key
        self._writer = logon.writer
        self._transport = logon.transport
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
    def status(self) -> str:
        """Transaction status as the server last said: I, T or E."""
        return self.answers.status

    async def reset_for(self, tenant: str) -> None:
        """Forget everything that the last tenant may have left. Raises DatabaseUnavailable."""
        if self.tenant is not None and self.tenant != tenant:
            await self.control("DISCARD ALL")
            self.known.clear()
            self.wish = ()
        self.tenant = tenant

    async def close(self) -> None:
        """Say goodbye, or hang up where something is still owed. Never raises."""
        if self.is_open:
            self.is_open = False
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
        if not self.is_open:
            raise DatabaseUnavailable("the connection to the database was lost")
        if await ended:
            self.break_off()
            raise DatabaseUnavailable("the connection to the database could not be reset")

    # --- the session's side --------------------------------------------------------------------------------------

    def attach(self, holder: Holder) -> None:
        """It is this session's now."""
        self.holder = holder
        self.answers.claim = holder.claim

    def detach(self) -> None:
        """It is nobody's. A reader that was slow with the end of a result must not leave it paused for the next."""
        if self._is_paused:
            self.resume_reading()
        self.holder = None
        self.answers.claim = unchanged

    def send(self, data: bytes) -> None:
        """Bytes for the server; `steps` already holds what it will owe for them."""
        if self.is_open:
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
        self._is_paused = True
        if self.is_open:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self.is_open:
            self._transport.resume_reading()

    def cancel(self) -> None:
        """Have the server cancel what runs here now. The connection is not lent on before the server was told."""
        if self._cancelling is None and self.is_open:
            work = send_cancel(self._address, self._key, CANCEL_DEADLINE_S)
            self._cancelling = asyncio.get_running_loop().create_task(work)

    @property
    def needs_recovery(self) -> bool:
        """Whether anything is left to be done before another may use it."""
        answers = self.answers
        return bool(self.steps) or answers.status != "I" or self._cancelling is not None or answers.skip > 0

    async def recover(self, *, is_copying: bool = False, is_unsynced: bool = False) -> bool:
        """End whatever the last holder left running, within a deadline; False: hang up, this cannot be used again."""
        self.detach()
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
        if self.is_open:
            self.is_open = False
            self._transport.abort()

    async def _settled(self) -> None:
        """Until the server owes nothing. Raises DatabaseUnavailable when it is gone."""
        while self.steps and self.is_open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        if not self.is_open:
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
        self.is_open = False
        holder, self.holder = self.holder, None
        owed = list(self.steps)
        self.steps.clear()
        for step in owed:
            step.drop("08006")
            if step.kind == steps.CONTROL:
                step.complete(b"")
        self._wake()
        if holder is not None:
            holder.lost(owed, is_told=self.answers.is_told, is_torn=bool(self.answers.skip))

    def data_received(self, data: bytes) -> None:
        answers = self.answers
        holder = self.holder
        line = self.steps
        if holder is not None and len(line) == 1 and line[0].kind == steps.TURN and data.endswith(READY_ENDS):
            turn = cast(Turn, line[0])
            if shown := answers.whole_turn(turn, data):
                holder.end_turn(turn, answers.tag, shown)
                return
        shown = answers.feed(data)
        if shown and holder is not None:
            holder.show(shown)
        if answers.parameters or answers.has_failed or answers.has_copy_in or answers.is_broken:
            self._heed(answers)
        if holder is not None and holder.is_swamped:
            holder.relieve()
        if not self.steps:
            if self._emptied is not None:
                self._wake()
            if self.holder is not None:
                self.holder.ready()
        elif self.max_bytes and answers.result_bytes > self.max_bytes and self.holder is not None:
            self.holder.overflow()

    def _heed(self, answers: Answers) -> None:
        """What came beside the answers."""
        reported = answers.parameters
        if reported:
            self.parameters.update(reported)
            answers.is_broken |= reported.get(_READ_ONLY, self._read_only) != self._read_only
            reported.clear()
        if answers.is_broken:
            self.break_off()
            self.connection_lost(None)
        if self.holder is not None:
            if answers.has_copy_in:
                self.holder.copy_in()
            if answers.has_failed:
                self.holder.failed()
        answers.has_copy_in = answers.has_failed = False

    def _wake(self) -> None:
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self._emptied = None
