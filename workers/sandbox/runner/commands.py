"""Runs programs inside for the host: argv, folder, environment, stdin or a terminal, streamed output, exit status.

Called by `service`; each command has a thread with an event loop of its own, so that neither running code nor another
command waits for it. A host that does not read stops the command's output. It never decides how long one may run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from os import environ  # of the sandbox: what its image and its owner gave it; the host's own never comes here
from typing import Any

from .frames import Header
from .link import Link
from .terminal import Terminal, take_terminal

CHUNK_BYTES = 64 * 1024
DRAIN_S = 0.5
"""For output still in the pipes when the program has ended; what it left behind may hold them for ever."""
NOT_STARTED = 127
MOST_COMMANDS = 16


class Commands:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}

    def start(self, header: Header) -> None:
        request = int(header["id"])
        with self._lock:
            if len(self._running) >= MOST_COMMANDS:
                self._link.send("failed", id=request, error="EAGAIN", message=f"{MOST_COMMANDS} commands run already")
                return
            self._running[request] = command = _Running(self._link, request, header)
        threading.Thread(target=self._run, args=(command,), name=f"command-{request}", daemon=True).start()

    def feed(self, request: int, content: bytes, last: bool) -> None:
        with self._lock:
            command = self._running.get(request)
        if command is not None:
            command.call(command.feed, content, last)

    def signal(self, request: int, number: int) -> None:
        with self._lock:
            command = self._running.get(request)
        if command is not None:
            command.call(command.signal, number)

    def resize(self, request: int, rows: int, columns: int) -> None:
        with self._lock:
            command = self._running.get(request)
        if command is not None:
            command.call(command.resize, rows, columns)

    def end_all(self) -> None:
        """The host is gone: nobody waits for them."""
        with self._lock:
            running = list(self._running.values())
        for command in running:
            command.call(command.signal, int(signal.SIGKILL))

    def _run(self, command: _Running) -> None:
        try:
            asyncio.run(command.run())
        finally:
            with self._lock:
                self._running.pop(command.request, None)
        self._link.send("exited", id=command.request, code=command.code)


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __init__(self, exited: asyncio.Event) -> None:
        super().__init__(limit=CHUNK_BYTES, loop=asyncio.get_running_loop())
        self._exited = exited

    def process_exited(self) -> None:
        super().process_exited()
        self._exited.set()


class _Running:
    """One command; everything but `call` happens on its own loop."""

    def __init__(self, link: Link, request: int, header: Header) -> None:
        self.request = request
        self.code = NOT_STARTED
        self._link = link
        self._header = header
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._started = threading.Event()
        self._terminal: Terminal | None = None
        self._feeding: set[asyncio.Task[None]] = set()

    def call(self, function: Any, *arguments: Any) -> None:
        self._started.wait(5)
        with contextlib.suppress(RuntimeError):  # it has just ended and its loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *arguments)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        try:
            self._process = process = await self._start(exited)
        except (OSError, ValueError) as error:
            self._send("stderr", f"{self._header['argv'][0]}: {error}\n".encode("utf-8", "backslashreplace"))
            return
        finally:
            self._started.set()
        sources = {"stdout": process.stdout, "stderr": process.stderr}
        readers = [asyncio.ensure_future(self._forward(name, source)) for name, source in sources.items() if source]
        if self._terminal is not None:
            readers.append(asyncio.ensure_future(self._forward("stdout", self._terminal)))
        try:
            await exited.wait()
            assert process.returncode is not None
            self.code = process.returncode
            _, late = await asyncio.wait(readers, timeout=DRAIN_S)
            left = {*late, *self._feeding}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
        finally:
            if self._terminal is not None:
                self._terminal.close()
            if self._transport is not None:
                self._transport.close()  # what it left behind goes on, and finds its pipes closed

    async def _start(self, exited: asyncio.Event) -> asyncio.subprocess.Process:
        options: dict[str, Any] = {
            "cwd": self._header.get("cwd") or None,
            "env": {**environ, **self._header.get("env", {})},
            "start_new_session": True,
        }
        if self._header.get("rows"):
            self._terminal = Terminal(self._header["rows"], self._header["columns"])
            options["env"].setdefault("TERM", "xterm-256color")
            with self._terminal.inside() as end:
                options |= {"stdin": end, "stdout": end, "stderr": end, "preexec_fn": take_terminal}
                return await self._execute(exited, options)
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        options |= {"stdin": pipe if self._header.get("stdin") else null, "stdout": pipe, "stderr": pipe}
        return await self._execute(exited, options)

    async def _execute(self, exited: asyncio.Event, options: dict[str, Any]) -> asyncio.subprocess.Process:
        """As `asyncio.create_subprocess_exec`, whose `wait` would also wait for whoever else holds the pipes."""
        loop = asyncio.get_running_loop()
        self._transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(exited), *self._header["argv"], **options
        )
        return asyncio.subprocess.Process(self._transport, protocol, loop)

    def feed(self, content: bytes, last: bool) -> None:
        task = asyncio.ensure_future(self._feed(content, last))
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)

    def signal(self, number: int) -> None:
        """To the program and everything it started that stayed in its session."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    async def _feed(self, content: bytes, last: bool) -> None:
        self._link.send("took", id=self.request, closed=not await self._take(content, last))

    async def _take(self, content: bytes, last: bool) -> bool:
        """Whether the command still takes input."""
        if self._terminal is not None:
            return await self._terminal.write(content, last)
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None:
            return False
        try:
            stdin.write(content)
            await stdin.drain()
        except OSError:
            return False
        if last:
            stdin.close()
        return not last

    async def _forward(self, stream: str, source: asyncio.StreamReader | Terminal) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            self._send(stream, chunk)

    def _send(self, stream: str, content: bytes) -> None:
        self._link.send("output", content, id=self.request, stream=stream)
