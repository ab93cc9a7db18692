"""A Python program of ours in a process of its own, spoken to over its stdin and stdout.

Used by `workers.sql.judge` and `workers.gpu.watch` on their event loops. It decides nothing about what is said, and
never starts a child again that ended.

Not asyncio's own subprocesses: Ray runs actors on uvloop, which forks the whole process and lets Python tidy up in the
copy before the program starts there. In a process with threads, such as every actor has, that may crash or hang, each
time anew. `subprocess` starts the program from a vfork, in which no Python runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

END_S = 10.0
"""For a killed child to be gone; only one that a driver holds in the kernel takes longer."""


class Child:
    """A process that runs. `reader`: what it says, `stdin`: for what it is told. Whoever started it calls `end`; where
    nobody can any more, its stdin ends."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        stdout: asyncio.ReadTransport,
        stdin: asyncio.WriteTransport,
    ) -> None:
        self._process = process
        self._stdout = stdout
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_gone)
        self.reader = reader
        self.stdin = stdin

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status (negative: ended by that signal), None while it runs."""
        return self._process.returncode

    async def wait(self) -> None:
        """Until it has ended, however long that takes."""
        await self._gone.wait()

    async def end(self, *, grace_s: float = 0.0) -> None:
        """Kill it unless it ends by itself within `grace_s`; returns once it is gone, after END_S in any case."""
        try:
            if grace_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await self._gone.wait()
        finally:
            self.stdin.close()
            self._stdout.close()
            if not self._gone.is_set():
                self._process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._gone.wait()

    def _on_gone(self) -> None:
        if self._process.poll() is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._gone.set()


async def start_child(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
    line_limit_bytes: int = 1 << 16,
) -> Child:
    """Run Python with these arguments. `environment` None: ours. Its stderr is ours, unless it shall be `quiet`.
    Raises OSError."""
    # On the loop's own thread, for the milliseconds that it takes: a child may ask the kernel to end it together with
    # the thread that started it.
    process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own program, no shell
        [sys.executable, *arguments],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        env=environment,
    )
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(line_limit_bytes)
    try:
        stdout, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return Child(process, reader, stdout, stdin)
    except BaseException:
        process.kill()
        process.wait(END_S)
        raise
