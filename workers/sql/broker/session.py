"""One client's connection: its transport, its deadlines, its bounds. What the messages mean is in `conversation`.

Made by the broker for each connection at a door. Everything is bounded: what arrives before it can be used, what waits
to be read by the client, and how long either may take. Never lets an exception reach the event loop.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, cast

from workers.errors import WorkerError
from workers.sql.broker.backend import Backend
from workers.sql.broker.door import Door, Services
from workers.sql.broker.errors import Fatal, Trouble, trouble_of
from workers.sql.broker.frames import (
    AUTHENTICATED,
    READY,
    error_response,
    frame_size,
    message,
    parameter_status,
)
from workers.sql.broker.prepared import Ruling
from workers.sql.broker.rulings import Protocol
from workers.sql.broker.settings import reports, wish_of
from workers.sql.broker.shortcut import Planned, Shortcut
from workers.sql.broker.startup import CancelRequest, EncryptionRequest, Hello, read_opening
from workers.sql.broker.steps import Step
from workers.sql.lender import Loan, Request
from workers.sql.line import Sort

MOST_OWED = 10_000
"""Answers that a client may be owed; above it nothing more is read from it until half of them came."""
HIGH_BYTES = 256 * 1024
"""Unread messages above this stop the reading, while the first of them waits for a verdict or a connection."""
CANCEL_GRACE_S = 1.0
"""The server's own timeout ends a statement first; this much later the broker cancels it."""
HANG_UP_S = 5.0
"""A statement that was cancelled and still does not end: its connection is given up."""
_TERMINATE: Final = ord("X")


class Session(Shortcut, asyncio.Protocol):
    """One client."""

    def __init__(self, services: Services, door: Door) -> None:
        super().__init__(services, door)
        self.key = b""
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._is_in = False
        """Let in: the opening is over."""
        self._is_blocked = False
        """The first message in the buffer waits for a verdict or a connection."""
        self._is_closed = False
        self.is_swamped = False
        self._request: Request | None = None
        self._planned: Planned | None = None
        """What the connection that is waited for shall run, where nothing but the data of this turn came."""
        self._asking: asyncio.Task[None] | None = None
        self._ruling: tuple[bytes, str, Ruling] | None = None
        """The verdict that was waited for."""
        self._trouble: Trouble | None = None
        """Why what was waited for cannot be had."""
        self._since_s = monotonic()
        """When the present wait began: for the rest of a message, a connection, or the client to read."""
        self._is_stalled = False
        self._cancelled_s = 0.0

    # --- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.door.arriving.add(self)
        if self.door.is_closing:
            self._expel(Fatal("57P01", "the broker is shutting down"))

    def data_received(self, data: bytes) -> None:
        if self.is_quiet and self.try_turn(data):
            return
        if self._is_closed:
            return
        self.is_quiet = self.is_alone = False
        if self._buffer:
            self._count(-len(self._buffer))
            data = self._buffer + data
            self._buffer = b""
        if self._is_blocked:
            self._planned = None
            self._keep(data)
            return
        self._guarded(data)

    def eof_received(self) -> None:
        return None

    def connection_lost(self, _exc: Exception | None) -> None:
        self._is_closed = True
        self.is_quiet = self.is_alone = False
        self.door.arriving.discard(self)
        self.door.sessions.pop(self.key, None)
        self._count(-len(self._buffer))
        self._buffer = b""
        if self._request is not None:
            self.services.lender.withdraw(self._request)
            self._request = None
        if self._asking is not None:
            self._asking.cancel()
        backend, self.backend = self.backend, None
        if backend is not None:
            self.services.recover(backend, self.is_copying, self.is_unsynced)

    def pause_writing(self) -> None:
        """The client does not read: then the server shall not send."""
        self._is_stalled = True
        self._since_s = monotonic()
        if self.backend is not None:
            self.backend.pause_reading()

    def take(self, backend: Backend) -> None:
        super().take(backend)
        if self._is_stalled:
            backend.pause_reading()

    def resume_writing(self) -> None:
        self._is_stalled = False
        if self.backend is not None:
            self.backend.resume_reading()

    # --- what the connection to the server tells -----------------------------------------------------------------

    def show(self, data: bytes) -> None:
        if self._transport is not None and not self._is_closed:
            self._transport.write(data)

    def pause(self) -> None:
        """The server does not read: then the client shall not send."""
        if self._transport is not None and not self._is_closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._is_closed and not self._is_blocked:
            self._transport.resume_reading()

    def lost(self, owed: list[Step], *, is_told: bool, is_torn: bool) -> None:
        """The connection is gone. The session goes on where the client can still make sense of the stream."""
        if self.backend is not None:
            self.services.lender.discard(self.backend, Sort.Wire)
        if is_torn:
            self._abort()
        self.is_quiet = self.is_alone = False
        self.is_swamped = False
        if not self.lose(owed, is_told=is_told):
            self._trouble = Trouble("08006", "the connection to the database was lost", hint="try again")
        if self.is_estimating:
            self._unblock()
        self.resume()

    def overflow(self) -> None:
        """The result is larger than allowed."""
        backend = self.backend
        if backend is not None and backend.steps[0].is_shown:
            limit = self.services.limits.max_bytes
            self.cut_off(Trouble("54000", f"the result is larger than {limit} bytes", hint="filter or aggregate"))
            backend.cancel()

    def relieve(self) -> None:
        """Some of what the client is owed has come: read on, where enough has."""
        if self.backend is None or len(self.backend.steps) <= MOST_OWED // 2:
            self.is_swamped = False
            self._unblock()

    # --- waiting -------------------------------------------------------------------------------------------------

    def rule(self, sql: bytes, protocol: str) -> Ruling | None:
        self._raise_trouble()
        ruling = self.door.rulings.known(sql, protocol)
        if ruling is not None:
            return ruling
        if self._ruling is not None and self._ruling[:2] == (sql, protocol):
            ruling, self._ruling = self._ruling[2], None
            return ruling
        self._block()
        self._asking = asyncio.get_running_loop().create_task(self._ask(sql, cast(Protocol, protocol)))
        return None

    async def _ask(self, sql: bytes, protocol: Protocol) -> None:
        try:
            self._ruling = (sql, protocol, await self.door.rulings.ask(sql, protocol))
        except Trouble as trouble:
            self._trouble = trouble
        self._asking = None
        self._unblock()

    def await_estimate(self) -> None:
        self._block()

    def lend(self) -> Backend | None:
        return cast("Backend | None", self.services.lender.lend(self.door.tenant, Sort.Wire))

    def wait(self, planned: Planned, data: bytes) -> bool:
        try:
            self._request = self.services.lender.request(self.door.tenant, Sort.Wire, self._receive)
        except WorkerError:
            return False
        self.is_quiet = False
        self._block()
        self._keep(data)
        self._planned = planned
        return True

    def lease(self) -> bool:
        self._raise_trouble()
        if self.backend is not None:
            return True
        lender = self.services.lender
        backend = self.lend()
        if backend is not None:
            self.hold(backend)
            return True
        try:
            self._request = lender.request(self.door.tenant, Sort.Wire, self._receive)
        except WorkerError as error:
            raise trouble_of(error) from None
        self._block()
        return False

    def _receive(self, result: Loan | WorkerError) -> None:
        self._request = None
        planned, self._planned = self._planned, None
        if isinstance(result, WorkerError):
            self._trouble = trouble_of(result)
        elif planned is None:
            self.hold(cast(Backend, result))
        elif self.send_turn(cast(Backend, result), planned):
            self._is_blocked = False
            size, self._buffer = len(self._buffer), b""
            self._count(-size)
            if size > HIGH_BYTES:
                self.resume()
            return
        self._unblock()

    def give_back(self, backend: Backend) -> None:
        backend.detach()
        self._cancelled_s = 0.0
        if backend.needs_recovery:
            self.services.recover(backend, False, False)
        else:
            self.services.lender.release(backend, Sort.Wire)

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble

    def _block(self) -> None:
        self._is_blocked = True
        self._since_s = monotonic()

    def _unblock(self) -> None:
        self._is_blocked = False
        self._planned = None
        if self._is_closed:
            return
        data, self._buffer = self._buffer, b""
        self._count(-len(data))
        self._guarded(data)
        if not self._is_blocked:
            self.resume()

    # --- messages ------------------------------------------------------------------------------------------------

    def _guarded(self, data: bytes) -> None:
        """Read what came; a mistake that cannot be mended ends this session, whatever it is."""
        try:
            rest = self._converse(data) if self._is_in else self._open(data)
        except Fatal as fatal:
            self._expel(fatal)
            return
        except Exception as error:  # noqa: BLE001 - the event loop must not see it, and nobody else suffer from it
            self._expel(Fatal("XX000", f"the broker failed on this message ({type(error).__name__})"))
            return
        if rest and not self._is_closed:
            self._keep(rest)
        self.look()

    def look(self) -> None:
        """Whether a usual turn may begin now."""
        self.is_quiet = self._is_in and not (self._is_closed or self._is_blocked or self._buffer) and self.is_settled

    def _converse(self, data: bytes) -> bytes:
        """Carry out every complete message; the rest of the data."""
        position = 0
        while (size := frame_size(data, position)) and position + size <= len(data):
            if self.backend is not None and len(self.backend.steps) > MOST_OWED:
                self.is_swamped = True
                self.pause()
                break
            kind = data[position]
            if kind == _TERMINATE:
                self._hang_up()
                return b""
            frame = data[position : position + size]
            if not self.handle(kind, frame[5:], frame):
                break
            position += size
        self.flush()
        self.part_if_idle()
        if position == 0:
            return data
        self._since_s = monotonic()
        return data[position:]

    def _keep(self, data: bytes) -> None:
        self._buffer = data
        self._count(len(data))
        if self.door.buffered_bytes > self.services.limits.most_buffered_bytes:
            self._expel(Fatal("53200", "too much unread data from this client", hint="send less at once"))
        elif self._is_blocked and len(data) > HIGH_BYTES:
            self.pause()

    def _count(self, change: int) -> None:
        self.door.buffered_bytes += change

    # --- the opening ---------------------------------------------------------------------------------------------

    def _open(self, data: bytes) -> bytes:
        while True:
            found = read_opening(data)
            if found is None:
                return data
            opening, size = found
            data = data[size:]
            match opening:
                case EncryptionRequest():
                    if data:
                        raise Fatal("08P01", "data follow a request for encryption that was not granted")
                    self.show(b"N")
                    return b""
                case CancelRequest(key):
                    self._cancel(key)
                    self._hang_up()
                    return b""
                case Hello():
                    self._let_in(opening)
                    return self._converse(data) if not self._is_blocked else data

    def _cancel(self, key: bytes) -> None:
        other = self.door.sessions.get(key)
        if other is not None:
            other.cancel()

    def cancel(self) -> None:
        """End what this session runs, or waits to run."""
        if self.is_busy and self.backend is not None:
            self.backend.cancel()
        elif self._is_blocked:
            self._give_up(Trouble("57014", "canceling statement due to user request"))

    def _give_up(self, trouble: Trouble) -> None:
        """Wait no longer for a verdict or a connection."""
        if self._request is not None:
            self.services.lender.withdraw(self._request)
            self._request = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._trouble = trouble
        self._unblock()

    def _let_in(self, hello: Hello) -> None:
        door, services = self.door, self.services
        if door.is_full:
            raise Fatal("53300", "too many connections of this client", hint="use a pool in the client, or close some")
        name = hello.parameters.get("database") or services.database
        if name not in (services.database, hello.parameters.get("user")):
            raise Fatal(
                "3D000", f"database {name[:63]!r} does not exist", hint=f"this door leads to {services.database}"
            )
        self.settings = door.rulings.settings_at_start(hello.parameters)
        self.wish = wish_of({**self.settings, **services.forced}, services.pinned)
        self._greet(hello)

    def _greet(self, hello: Hello) -> None:
        self.key = self.door.new_key()
        self.door.arriving.discard(self)
        self.door.sessions[self.key] = self
        self._is_in = True
        parameters = {**self.services.parameters, "application_name": self.settings.get("application_name", "")}
        said = b"".join(parameter_status(name, value) for name, value in parameters.items())
        said += reports({}, {n: v for n, v in self.settings.items() if n != "application_name"}, parameters)
        self.show(hello.negotiation + AUTHENTICATED + said + message(b"K", self.key) + READY["I"])

    # --- deadlines and the end -----------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Look at every deadline; called a few times a second."""
        limits = self.services.limits
        waited_s = now_s - self._since_s
        if not self._is_in:
            if waited_s > limits.startup_s:
                self._expel(Fatal("08P01", "no startup message came in time"))
        elif self._is_stalled:
            if waited_s > limits.stalled_s:
                self._abort()
        elif self._request is not None:
            if waited_s > limits.wait_s:
                self._give_up(Trouble("53300", "no free connection to the database in time", hint="try again later"))
        elif self.is_busy and not self.is_copying:
            self._watch_statement(now_s)
        elif self.backend is not None:
            if now_s - max(self.sent_s, self._since_s) > limits.idle_in_transaction_s:
                self._expel(Fatal("25P03", "the transaction was open without doing anything for too long"))
        elif self._buffer and not self._is_blocked and waited_s > limits.half_message_s:
            self._expel(Fatal("08P01", "the rest of a message did not come in time"))

    def _watch_statement(self, now_s: float) -> None:
        backend = self.backend
        assert backend is not None
        if not self._cancelled_s and now_s - self.sent_s > self.statement_limit_s + CANCEL_GRACE_S:
            self._cancelled_s = now_s
            self.cut_off(Trouble("57014", "canceling statement due to statement timeout"))
            backend.cancel()
        elif self._cancelled_s and now_s - self._cancelled_s > HANG_UP_S:
            backend.break_off()

    def shut(self) -> None:
        """The broker ends: tell the client."""
        self._expel(Fatal("57P01", "the broker is shutting down", hint="connect again"))

    @property
    def is_idle(self) -> bool:
        """Nothing would be lost if this session ended now."""
        return self.backend is None and not self._is_blocked

    def _expel(self, fatal: Fatal) -> None:
        self.show(error_response(fatal))
        self._hang_up()

    def _hang_up(self) -> None:
        # What the server already owes must be sent, or the connection would wait for it in vain.
        self.flush()
        if self._transport is not None and not self._is_closed:
            self._transport.close()
        self._is_closed = True
        self.is_quiet = self.is_alone = False

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._is_closed = True
        self.is_quiet = self.is_alone = False
