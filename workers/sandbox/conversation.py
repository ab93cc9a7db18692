"""What every request to a runner shares: frames in and out, the reply each frame belongs to, deadlines, giving up.

`session` builds on it and is what the host uses. Nothing that comes from inside is trusted: frames are limited and
schema-checked (`wire`), output is capped while it streams (`replies`), every wait has a deadline, and whatever the
sandbox does ends in an Execution or a SessionError. A conversation gives up, it never kills: the owner of the sandbox
does, when `usable` turns false. One event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any, Self

from workers.sandbox import wire
from workers.sandbox.errors import (
    FileRefused,
    ProtocolBroken,
    RunnerAbsent,
    RunnerLost,
    SessionBusy,
    SessionError,
    SpecInvalid,
)
from workers.sandbox.replies import Execution, Reply, SessionLimits, execution_of

READ_BYTES = 64 * 1024
FAIRNESS_FRAMES = 64
"""After so many frames everybody else on the loop gets a turn: a flood of tiny frames is always there to read."""
STRAY_FRAME_BYTES = 256
"""What a frame that nobody asked for counts for at least: it costs us time even when it is empty."""
ENTROPY_BYTES = 64
MAX_PATH_BYTES = 4096
DEFAULT_LIMITS = SessionLimits()


class Conversation:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: SessionLimits) -> None:
        """Use `open`."""
        self._reader = reader
        self._writer = writer
        self._limits = limits
        # Random, so that what an earlier session left running inside never answers for this one.
        self._last_id = secrets.randbits(40)
        self._pending: dict[int, Reply] = {}
        self._stray_bytes = 0
        self._end: SessionError | None = None
        self._receiving: asyncio.Task[None] | None = None
        self.epoch = secrets.token_hex(16)
        self.python = ""
        """Version of Python inside, as the runner says."""

    @classmethod
    async def open(cls, connection: socket.socket, limits: SessionLimits = DEFAULT_LIMITS) -> Self:
        """Greet the runner on an accepted connection; it has reseeded when this returns.

        Raises RunnerAbsent, RunnerLost, ProtocolBroken; then the connection is closed.
        """
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BYTES)
        session = cls(reader, writer, limits)
        try:
            async with asyncio.timeout(limits.answer_s):
                await session._greet()
        except TimeoutError as error:
            await session.close()
            raise RunnerAbsent(f"the runner did not greet within {limits.answer_s:g} s") from error
        except BaseException:
            await session.close()
            raise
        session._receiving = asyncio.create_task(session._receive(), name="sandbox session")
        return session

    @property
    def usable(self) -> bool:
        """False once it is released, closed, lost or given up: then only the sandbox's owner can do something."""
        return self._end is None

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def set_limits(self, limits: SessionLimits) -> None:
        """Hold the sandbox to these from the next request on."""
        self._limits = limits

    async def release(self) -> None:
        """The runner closes its connection, so that a checkpoint is possible; it comes back to the next listener.

        Close the listening socket first. Raises SessionBusy while something runs, RunnerAbsent when it does not let go.
        """
        if self.busy:
            raise SessionBusy("something runs in this sandbox", hint="wait for it, or interrupt it")
        await self.send(wire.encode("release"))
        if self._receiving is not None:
            _, late = await asyncio.wait([self._receiving], timeout=self._limits.answer_s)
            if late:
                await self._give_up(RunnerAbsent("the runner did not let go of its connection"))
                raise RunnerAbsent("the runner did not let go of its connection")
        await self.close()

    async def close(self) -> None:
        """End the conversation; what still waits for an answer ends with RunnerLost. Safe to call twice."""
        await self._give_up(RunnerLost("the session is closed"))
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving])

    async def _greet(self) -> None:
        message, _ = await self._frame()
        if not isinstance(message, wire.Hello):
            raise ProtocolBroken("something else than a greeting")
        if message.version != wire.VERSION:
            raise ProtocolBroken(f"version {message.version} of the protocol; this host speaks {wire.VERSION}")
        self.python = message.python
        await self.send(wire.encode("welcome", secrets.token_bytes(ENTROPY_BYTES), epoch=self.epoch))
        while not isinstance(message, wire.Ready):
            message, payload = await self._frame()
            self._count_stray(payload)

    async def _receive(self) -> None:
        end: SessionError = RunnerLost("the runner inside the sandbox is gone", hint="its memory limit may be too low")
        frames = 0
        try:
            while True:
                message, payload = await self._frame()
                reply = self._pending.get(message.id)
                if reply is None:
                    self._count_stray(payload)
                else:
                    await reply.take(message, payload)
                frames += 1
                if frames % FAIRNESS_FRAMES == 0:
                    await asyncio.sleep(0)
        except SessionError as error:
            end = error
        finally:
            await self._give_up(end)

    async def _frame(self) -> tuple[wire.Message, bytes]:
        """Raises RunnerLost at the end of the connection, ProtocolBroken."""
        try:
            header_bytes, payload_bytes = wire.lengths(await self._reader.readexactly(wire.PREFIX.size))
            async with asyncio.timeout(self._limits.frame_s):
                content = await self._reader.readexactly(header_bytes + payload_bytes)
        except (asyncio.IncompleteReadError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise ProtocolBroken(f"a frame that took longer than {self._limits.frame_s:g} s") from error
            hint = "its memory limit may be too low"
            raise RunnerLost("the runner inside the sandbox is gone", hint=hint) from error
        return wire.decode(content[:header_bytes]), content[header_bytes:]

    def _count_stray(self, payload: bytes) -> None:
        """Output of threads that go on after their code, answers that nobody waits for any more."""
        self._stray_bytes += max(len(payload), STRAY_FRAME_BYTES)
        if self._stray_bytes > self._limits.stray_bytes:
            raise ProtocolBroken("too much that nobody asked for")

    @contextlib.contextmanager
    def _expect(self, reply: Reply) -> Iterator[int]:
        """The number of a request whose frames go to `reply` as long as this is held."""
        if self._end is not None:
            raise self._end
        self._last_id += 1
        request = self._last_id
        self._pending[request] = reply
        try:
            yield request
        finally:
            del self._pending[request]

    async def _ask(
        self,
        expected: type[wire.Message],
        kind: str,
        about: str,
        payload: bytes = b"",
        *,
        deadline: float | None = None,
        **fields: Any,
    ) -> tuple[wire.Message, bytes]:
        """A quick question; `deadline` (of the loop's clock) is that of a whole series of them.

        Raises FileRefused, RunnerAbsent, RunnerLost, ProtocolBroken.
        """
        check_path(about)
        timeout_s = self._limits.answer_s
        if deadline is not None:
            timeout_s = min(timeout_s, deadline - asyncio.get_running_loop().time())
        reply = Reply(self._limits)
        with self._expect(reply) as request:
            await self.send(wire.encode(kind, payload, id=request, **fields))
            done, _ = await asyncio.wait([reply.ended], timeout=max(0.0, timeout_s))
            if not done:
                raise RunnerAbsent(f"the runner did not answer within {timeout_s:g} s")
            message, content = reply.ended.result()
        if isinstance(message, wire.Refused):
            raise FileRefused(about, message.error, message.message)
        if not isinstance(message, expected):
            raise ProtocolBroken(f"an answer to something else than {kind}")
        return message, content

    async def _conclude(self, reply: Reply, timeout_s: float | None, stop: bytes) -> Execution:
        """Wait for the end of what was posted; past the deadline or the cap send `stop`; after the grace give up."""
        started = time.monotonic()
        timeout_s = self._limits.wall_s if timeout_s is None else min(timeout_s, self._limits.wall_s)
        timed_out = False
        lost: SessionError | None = None
        overflow = asyncio.create_task(reply.stop.wait())
        try:
            await self._drain()
            waits: set[asyncio.Future[Any]] = {reply.ended, overflow}
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not reply.ended.done():
                timed_out = not reply.capped
                await self.send(stop)
                await asyncio.wait([reply.ended], timeout=self._limits.grace_s)
            if not reply.ended.done():
                await self._give_up(RunnerAbsent("the code did not end when it was interrupted"))
            reply.ended.result()
        except SessionError as error:
            lost = error
        except BaseException:
            self._writer.write(stop)  # whoever asked is gone, or failed; what runs inside should not stay
            raise
        finally:
            overflow.cancel()
        wall_s = time.monotonic() - started
        return execution_of(reply, wall_s=wall_s, timed_out=timed_out, lost=lost)

    async def send(self, frame: bytes) -> None:
        """Raises RunnerLost when the sandbox does not take it in time."""
        self._post(frame)
        await self._drain()

    def _post(self, frame: bytes) -> None:
        """Put a frame in line, behind all that was posted before. `_drain` has to follow."""
        if self._end is not None:
            raise self._end
        self._writer.write(frame)

    async def _drain(self) -> None:
        """Wait until the sandbox has taken enough of what was posted. Raises RunnerLost when it does not in time."""
        if self._end is not None:
            raise self._end
        try:
            async with asyncio.timeout(self._limits.frame_s):
                await self._writer.drain()
        except OSError as error:  # TimeoutError too
            lost = RunnerLost("the runner inside the sandbox takes nothing any more")
            await self._give_up(lost)
            raise lost from error

    async def _give_up(self, end: SessionError) -> None:
        if self._end is None:
            self._end = end
        for reply in self._pending.values():
            reply.fail(end)
        self._writer.transport.abort()


def is_unicode(text: str) -> bool:
    """Whether a frame can carry it: a lone surrogate has no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def check_path(path: str) -> None:
    """Raises SpecInvalid for a path that no file can have."""
    if not is_unicode(path) or "\0" in path or len(path.encode()) > MAX_PATH_BYTES:
        raise SpecInvalid("path", f"at most {MAX_PATH_BYTES} bytes of UTF-8, without NUL")
