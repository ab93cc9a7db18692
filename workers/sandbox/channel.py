"""Our end of the reaper's channel: sends commands, hands each reply to the one who waits for it. See `reaper` for the
protocol.

Used by `runsc` only, on one event loop. A command that is late, or that nobody waits for any more, is killed. When the
reaper is gone everyone who waits is told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.sandbox import reaper
from workers.sandbox.errors import ReaperLost, RunscHung

SEND_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a command ended. `sandbox` is there when it left one behind."""

    code: int
    error: str = ""
    sandbox: Sentry | None = None


@dataclass(frozen=True, kw_only=True)
class Sentry:
    """The host process of a sandbox; `end` holds its exit code as soon as it has ended (negative: by that signal)."""

    pid: int
    end: asyncio.Future[int]


class Channel:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection: socket.socket | None = connection
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._on_readable)
        self._last_request = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._sentries: dict[int, asyncio.Future[int]] = {}
        self.closed = asyncio.Event()
        """Set as soon as nobody is there any more."""

    @property
    def alive(self) -> bool:
        return self._connection is not None

    async def send(
        self, argv: Sequence[str], descriptors: Sequence[int], *, pid_file: str = "", read_only: Sequence[str] = ()
    ) -> int:
        """Start a command with these three descriptors; the number to wait for. ReaperLost when nobody is there."""
        self._last_request += 1
        request = self._last_request
        content = {"id": request, "argv": list(argv), "pid_file": pid_file, "read_only": list(read_only)}
        packet = json.dumps(content).encode()
        self._waiting[request] = self._loop.create_future()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                while not self._try_send(packet, descriptors):  # noqa: ASYNC110 - full for microseconds at most
                    await asyncio.sleep(0.001)
        except (OSError, TimeoutError) as error:
            self._waiting.pop(request, None)
            raise ReaperLost(
                "this sandbox host does not answer", hint="start it again; its sandboxes are gone"
            ) from error
        except BaseException:
            self._waiting.pop(request, None)
            raise
        return request

    async def reply(self, request: int, verb: str, timeout_s: float) -> Reply:
        """The reply to `request`.

        RunscHung when it is late; then, and when the caller is cancelled, the command is killed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiting[request]
        except TimeoutError:
            raise RunscHung(verb, timeout_s) from None
        finally:
            self.abandon(request)

    def abandon(self, request: int) -> None:
        """Nobody waits for this command any more: kill it, unless it has ended."""
        future = self._waiting.pop(request, None)
        if (future is None or future.cancelled() or not future.done()) and self._connection is not None:
            # A full channel means that the reaper is stuck; then the sandbox host is lost anyway.
            with contextlib.suppress(OSError):
                self._connection.send(json.dumps({"kill": request}).encode())

    def close(self) -> None:
        """Hang up: the reaper ends everything below it. Everyone who waits gets ReaperLost."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self.closed.set()
        self._loop.remove_reader(connection.fileno())
        connection.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    ReaperLost("this sandbox host is gone", hint="start it again; its sandboxes are gone")
                )
        for end in self._sentries.values():
            if not end.done():
                end.set_result(-signal.SIGKILL)
        self._sentries.clear()

    def _try_send(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        if self._connection is None:
            raise ReaperLost("this sandbox host is not running", hint="start it again; its sandboxes are gone")
        try:
            socket.send_fds(self._connection, [packet], descriptors)
        except BlockingIOError:
            return False
        return True

    def _on_readable(self) -> None:
        while self._connection is not None:
            try:
                packet = self._connection.recv(reaper.MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self.close()
                return
            self._dispatch(json.loads(packet))

    def _dispatch(self, said: dict[str, Any]) -> None:
        if "gone" in said:
            end = self._sentries.pop(said["pid"], None)
            if end is not None and not end.done():
                end.set_result(said["gone"])
            return
        sandbox = None
        if "pid" in said:
            # Made here, not by the one who waits: that this sandbox is gone may be the very next packet.
            sandbox = Sentry(pid=said["pid"], end=self._loop.create_future())
            self._sentries[sandbox.pid] = sandbox.end
        future = self._waiting.get(said["id"])
        if future is not None and not future.done():
            future.set_result(Reply(code=said["code"], error=said.get("error", ""), sandbox=sandbox))
