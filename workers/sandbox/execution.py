"""One more command inside a sandbox, from its start to its end: output captured up to a limit, time up to a limit.

Called by `runsc.Runsc.execute`, which makes the command line and says what the exit code means. It ends the command
when its time or its output is used up; it never ends the sandbox.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence

from workers.sandbox.capture import Budget, Pipe
from workers.sandbox.channel import Channel, Reply
from workers.sandbox.errors import RunscHung
from workers.sandbox.invocation import Finished

DRAIN_S = 0.5
"""For output still in the pipe when its command has ended; a process left behind may hold the pipe for ever."""


async def run_captured(
    channel: Channel,
    argv: Sequence[str],
    *,
    stdin: bytes,
    timeout_s: float,
    output_bytes: int,
    end_inside: Callable[[], Awaitable[None]],
) -> Finished:
    """`end_inside` kills the process inside: killing the `runsc exec` that waits for it does not."""
    started = time.monotonic()
    full = asyncio.Event()
    budget = Budget(output_bytes, full.set)
    stdout, stderr = Pipe(budget), Pipe(budget)
    source = await asyncio.to_thread(_memory_file, stdin)
    try:
        request = await channel.send(argv, (source, stdout.write_end, stderr.write_end))
        stdout.hand_over()
        stderr.hand_over()
        reply = asyncio.ensure_future(channel.reply(request, "exec", timeout_s))
        try:
            code = await _code_unless_full(reply, full)
            if code is None:
                # Before `runsc exec` itself is given up, which is the one that says what to kill.
                await end_inside()
            else:
                await asyncio.gather(stdout.ended(DRAIN_S), stderr.ended(DRAIN_S))
        finally:
            reply.cancel()
            await asyncio.wait((reply,))
            if not reply.cancelled():
                reply.exception()  # it came while the command was ended: looked at, and of no interest any more
        return Finished(
            stdout=stdout.close(),
            stderr=stderr.close(),
            code=None if budget.exceeded else code,
            capped=budget.exceeded,
            timed_out=code is None and not budget.exceeded,
            wall_s=time.monotonic() - started,
        )
    finally:
        os.close(source)
        stdout.close()
        stderr.close()


async def _code_unless_full(reply: asyncio.Future[Reply], full: asyncio.Event) -> int | None:
    """The command's exit code, or None when its time or its output is used up first."""
    overflow = asyncio.ensure_future(full.wait())
    try:
        await asyncio.wait((reply, overflow), return_when=asyncio.FIRST_COMPLETED)
        return reply.result().code if reply.done() else None
    except RunscHung:
        return None
    finally:
        overflow.cancel()


def _memory_file(content: bytes) -> int:
    """A file in memory, open for reading: a writer of its own to a pipe would need a task for every command."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)
