"""A session against a runner that lies, floods, stalls or goes: each ends typed and in time, with bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sandpool.outcome import Ending
from workers.sandbox.errors import FileRefused, ProtocolBroken, RunnerAbsent, RunnerLost, SessionBusy, SessionError
from workers.sandbox.replies import SessionLimits
from workers.sandbox.session import Session
from workers.sandbox.wire import VERSION

LIMITS = SessionLimits(
    output_bytes=10_000, result_bytes=10_000, wall_s=2, grace_s=0.3, answer_s=0.5, frame_s=0.3, stray_bytes=50_000
)


class Liar:
    """The sandbox's end of the socket; says whatever a test wants."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    async def say(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        header = json.dumps({"kind": kind, **fields}).encode()
        await self.raw(struct.pack(">II", len(header), len(payload)) + header + payload)

    async def raw(self, content: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.end, content)

    async def hear(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        prefix = await loop.sock_recv(self.end, 8)
        header_bytes, payload_bytes = struct.unpack(">II", prefix)
        content = b""
        while len(content) < header_bytes + payload_bytes:
            content += await loop.sock_recv(self.end, header_bytes + payload_bytes - len(content))
        heard: dict[str, Any] = json.loads(content[:header_bytes])
        return heard


async def meet() -> tuple[Session, Liar]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    liar = Liar(theirs)
    opening = asyncio.create_task(Session.open(ours, LIMITS))
    await liar.say("hello", version=VERSION, python="3", pid=1)
    assert (await liar.hear())["kind"] == "welcome"
    await liar.say("ready")
    return await opening, liar


async def ends_with(lie: Callable[[Liar, int], Awaitable[None]]) -> tuple[Ending, str, bool]:
    """Ending and error of an execution whose answer is the lie, and whether the session is usable after it."""
    session, liar = await meet()
    running = asyncio.create_task(session.run_code("1"))
    request = (await liar.hear())["id"]
    await lie(liar, request)
    started = time.monotonic()
    execution = await running
    assert time.monotonic() - started < LIMITS.wall_s + LIMITS.grace_s + LIMITS.frame_s + 1
    usable = session.usable
    await session.close()
    liar.end.close()
    return execution.ending, execution.error.kind if execution.error else "", usable


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">II", 2**31, 0),
        struct.pack(">II", 10, 2**32 - 1),
        struct.pack(">II", 0, 0),
        struct.pack(">II", 2, 0) + b"{}",
        struct.pack(">II", 100, 0) + b"{",
    ],
    ids=["http", "giant header", "giant payload", "empty header", "no message", "frame that stops half-way"],
)
async def test_a_broken_frame_ends_the_execution_and_the_session(content: bytes) -> None:
    async def lie(liar: Liar, _: int) -> None:
        await liar.raw(content)

    assert await ends_with(lie) == (Ending.Failed, "session.protocol", False)


async def test_a_greeting_in_the_middle_ends_the_session() -> None:
    async def lie(liar: Liar, request: int) -> None:
        await liar.say("hello", id=request, version=VERSION, python="3", pid=1)

    assert await ends_with(lie) == (Ending.Failed, "session.protocol", False)


async def test_a_connection_that_ends_is_a_lost_runner() -> None:
    async def lie(liar: Liar, _: int) -> None:
        liar.end.close()

    assert await ends_with(lie) == (Ending.Failed, "session.runner_lost", False)


async def test_a_runner_that_never_answers_times_out_and_is_given_up() -> None:
    async def lie(liar: Liar, _: int) -> None:
        return None

    assert await ends_with(lie) == (Ending.TimedOut, "session.runner_absent", False)


async def test_answers_of_other_requests_change_nothing() -> None:
    async def lie(liar: Liar, request: int) -> None:
        await liar.say("done", id=request + 1, ending="raised", error="E")
        await liar.say("output", b"x" * 1000, id=0, stream="stdout")
        await liar.say("done", id=request, ending="done")
        await liar.say("done", id=request, ending="raised", error="E")

    assert await ends_with(lie) == (Ending.Succeeded, "", True)


async def test_output_that_belongs_to_nothing_ends_the_session_at_its_limit() -> None:
    async def lie(liar: Liar, _: int) -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await liar.say("output", b"x" * 10_000, id=0, stream="stdout")

    assert await ends_with(lie) == (Ending.Failed, "session.protocol", False)


async def test_a_flood_of_results_ends_as_output_capped() -> None:
    async def lie(liar: Liar, request: int) -> None:
        for number in range(400):
            await liar.say("item", b"", id=request, item=number % 64, type=f"a/b{number}", value=False)
        await liar.say("done", id=request, ending="interrupted", error="KeyboardInterrupt")

    assert (await ends_with(lie))[0] is Ending.OutputCapped


async def test_a_flood_of_empty_frames_lets_the_loop_go_on() -> None:
    session, liar = await meet()
    running = asyncio.create_task(session.run_code("1"))
    request = (await liar.hear())["id"]
    header = json.dumps({"kind": "output", "id": request, "stream": "stdout"}).encode()
    flooding = asyncio.create_task(liar.raw((struct.pack(">II", len(header), 0) + header) * 4_000))
    longest_s, last = 0.0, time.monotonic()
    while not flooding.done():
        await asyncio.sleep(0)
        longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()
    assert longest_s < 0.5
    await liar.say("done", id=request, ending="done")
    assert (await running).ending is Ending.Succeeded
    await session.close()
    liar.end.close()


@pytest.mark.parametrize("fields", [{"version": VERSION + 1, "python": "3", "pid": 1}, {"version": VERSION}])
async def test_a_greeting_of_another_version_is_refused(fields: dict[str, Any]) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    liar = Liar(theirs)
    await liar.say("hello", **fields)
    with pytest.raises(ProtocolBroken):
        await Session.open(ours, LIMITS)
    theirs.close()


async def test_a_runner_that_does_not_greet_is_absent() -> None:
    ours, theirs = socket.socketpair()
    with pytest.raises(RunnerAbsent):
        await Session.open(ours, LIMITS)
    theirs.close()


async def test_a_file_that_grows_while_it_is_read_stops_at_the_limit() -> None:
    session, liar = await meet()
    reading = asyncio.create_task(session.read_file("f", max_bytes=5_000))
    for _ in range(3):
        request = (await liar.hear())["id"]
        await liar.say("data", b"x" * 2_000, id=request, size=5_000)
    with pytest.raises(FileRefused):
        await reading
    await session.close()
    liar.end.close()


async def test_a_list_that_never_ends_and_a_file_in_crumbs_are_given_up_soon() -> None:
    session, liar = await meet()
    for reading, answer, fields in (
        (session.list_files("."), b"[]", {"kind": "entries", "next": "6161"}),
        (session.read_file("f"), b"x", {"kind": "data", "size": 1 << 20}),
    ):
        task = asyncio.ensure_future(reading)
        asked = 0
        while not task.done():
            hearing = asyncio.ensure_future(liar.hear())
            await asyncio.wait({task, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                hearing.cancel()
                break
            asked += 1
            await liar.say(payload=answer, id=hearing.result()["id"], **fields)
        with pytest.raises(ProtocolBroken):
            await task
        assert asked < 20
    await session.close()
    liar.end.close()


async def test_an_answer_of_another_kind_is_refused() -> None:
    session, liar = await meet()
    reading = asyncio.create_task(session.read_file("f"))
    await liar.say("ok", id=(await liar.hear())["id"])
    with pytest.raises(ProtocolBroken):
        await reading
    await session.close()
    liar.end.close()


async def test_a_runner_that_does_not_let_go_is_given_up() -> None:
    session, liar = await meet()
    with pytest.raises(RunnerAbsent):
        await session.release()
    assert not session.usable
    with pytest.raises(SessionError):
        await session.run_code("1")
    liar.end.close()


async def test_a_busy_session_is_not_released_and_closing_it_ends_what_waits() -> None:
    session, liar = await meet()
    running = asyncio.create_task(session.run_code("1"))
    await liar.hear()
    with pytest.raises(SessionBusy):
        await session.release()
    await session.close()
    execution = await running
    assert execution.error is not None
    assert execution.error.kind == RunnerLost.code
    liar.end.close()


async def test_a_sandbox_that_takes_nothing_ends_the_write_in_time() -> None:
    session, liar = await meet()
    with pytest.raises(SessionError):
        await session.write_file("f", b"x" * 8_000_000)
    await session.close()
    liar.end.close()


async def test_an_error_of_the_callers_own_listener_goes_back_to_the_caller() -> None:
    session, liar = await meet()

    async def listen(stream: str, content: bytes) -> None:
        raise KeyError(stream)

    running = asyncio.create_task(session.run_code("1", on_output=listen))
    request = (await liar.hear())["id"]
    await liar.say("output", b"x", id=request, stream="stdout")
    with pytest.raises(KeyError):
        await running
    assert await liar.hear() == {"kind": "interrupt", "id": request}
    assert session.usable
    await session.close()
    liar.end.close()
