"""One conversation with the runner inside a sandbox: code, commands, files, interrupt, release, reseed.

Called by the host, which owns the sandbox and ends it when `usable` turns false: a session gives up, it never kills,
and it never raises for what code does: that is an Execution. One event loop; one piece of code at a time, commands,
files (`transfers`) and watches beside it. What all of them share is in `conversation`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any

from workers.sandbox import wire
from workers.sandbox.conversation import DEFAULT_LIMITS, ENTROPY_BYTES, is_unicode
from workers.sandbox.errors import SessionBusy, SpecInvalid
from workers.sandbox.interaction import Interaction, Terminal
from workers.sandbox.replies import Execution, OnOutput, Reply
from workers.sandbox.transfers import Transfers

__all__ = ["DEFAULT_LIMITS", "Session", "Terminal"]

SIGKILL = 9


class Session(Transfers):
    _code: Reply | None = None
    """The code that runs, and its number."""
    _code_id = 0

    async def run_code(
        self,
        code: str,
        *,
        context: str = "main",
        name: str = "",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run Python in a namespace that stays. `name`: the file name in tracebacks.

        Ends Succeeded, Failed (an error, a nonzero exit, a runner that died), TimedOut, OutputCapped or Cancelled.
        Raises SessionBusy while other code runs, SessionError when the session is over already, SpecInvalid for code
        over 1 MiB.
        """
        source = code.encode("utf-8", "surrogatepass")
        if len(source) > wire.MAX_PAYLOAD_BYTES:
            raise SpecInvalid("code", f"at most {wire.MAX_PAYLOAD_BYTES} bytes; write it to a file and import that")
        for text, most in ((context, 200), (name, 1000)):
            if len(text) > most or not is_unicode(text):
                raise SpecInvalid("context", "at most 200 characters of Unicode, and 1000 for the name")
        if self._code:
            raise SessionBusy("other code runs in this sandbox", hint="wait for it, or interrupt it")
        reply = Reply(self._limits, on_output)
        with self._expect(reply) as request:
            self._code, self._code_id = reply, request
            try:
                result_bytes = self._limits.result_bytes
                self._post(
                    wire.encode("run", source, id=request, context=context, name=name, result_bytes=result_bytes)
                )
                return await self._conclude(reply, timeout_s, wire.encode("interrupt", id=request))
            finally:
                self._code = None

    async def run_command(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterable[bytes] = b"",
        pty: Terminal | None = None,
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run a program inside until it ends; at the deadline or output limit its process group is killed.

        An iterable as `stdin` is asked for the next piece when the program has taken the one before. With `pty` it
        runs in a terminal of that size; then all its output is stdout. A program that cannot be started ends with code
        127, as in a shell. Errors as for `run_code`, and those of the iterable.
        """
        interactive = not isinstance(stdin, bytes) or bool(stdin)
        async with self.open_command(
            argv, cwd=cwd, env=env, stdin=interactive, pty=pty, timeout_s=timeout_s, on_output=on_output
        ) as command:
            ending = asyncio.ensure_future(command.wait())
            feeding = asyncio.ensure_future(command.feed(stdin)) if interactive else None
            try:
                if feeding is not None:
                    await asyncio.wait({ending, feeding}, return_when=asyncio.FIRST_COMPLETED)
                    if feeding.done() and not ending.done():
                        feeding.result()
                return await ending
            finally:
                for task in (ending, feeding):
                    if task is not None and not task.done():
                        task.cancel()
                        await asyncio.wait([task])

    @contextlib.asynccontextmanager
    async def open_command(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = True,
        pty: Terminal | None = None,
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> AsyncIterator[Interaction]:
        """A program inside to interact with while it runs; what still runs at the end of the block is killed."""
        if not argv:
            raise SpecInvalid("argv", "at least the program")
        reply = Reply(self._limits, on_output)
        with self._expect(reply) as request:
            rows, columns = (pty.rows, pty.columns) if pty else (0, 0)
            start: dict[str, Any] = {"argv": list(argv), "cwd": cwd or "", "env": dict(env or {}), "stdin": stdin}
            try:
                ask = wire.encode("command", id=request, rows=rows, columns=columns, **start)
            except (ValueError, UnicodeError) as error:
                raise SpecInvalid(
                    "argv", f"arguments and environment of at most {wire.MAX_HEADER_BYTES} bytes"
                ) from error
            kill = wire.encode("signal", id=request, number=SIGKILL)
            self._post(ask)
            ending = asyncio.create_task(self._conclude(reply, timeout_s, kill), name="sandbox command")
            try:
                yield Interaction(self, request, reply, ending)
            finally:
                if not reply.ended.done() and self.usable:
                    self._post(kill)  # also when `ending` is so young that it cannot do it when it is cancelled
                if not ending.done():
                    ending.cancel()
                    await asyncio.wait([ending])

    async def interrupt(self) -> bool:
        """KeyboardInterrupt in the code that runs; whether any does. Code that ignores it ends at its deadline."""
        if self._code is None:
            return False
        self._code.interrupted = True
        await self.send(wire.encode("interrupt", id=self._code_id))
        return True

    async def forget(self, context: str) -> None:
        """Drop a namespace. FileRefused where there is none, SessionBusy while code runs."""
        if self._code:
            raise SessionBusy("code runs in this sandbox", hint="wait for it, or interrupt it")
        await self._ask(wire.Ok, "forget", context, context=context)

    async def reseed(self) -> None:
        """New seeds from fresh entropy. A new session after a restore or fork has done it already."""
        await self._ask(wire.Ok, "reseed", "", secrets.token_bytes(ENTROPY_BYTES))
