"""A runner that says anything, in any order, cut anywhere: each conversation ends typed, in time and in bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.sandbox.errors import SandboxError
from workers.sandbox.replies import Execution, SessionLimits
from workers.sandbox.session import Session
from workers.sandbox.wire import VERSION

LIMITS = SessionLimits(
    output_bytes=2_000,
    result_bytes=2_000,
    wall_s=0.05,
    grace_s=0.02,
    answer_s=0.05,
    transfer_s=0.1,
    frame_s=0.05,
    stray_bytes=20_000,
    frames=100,
)
KINDS = (
    *("hello", "ready", "output", "item", "done", "exited", "took", "data", "entries", "changes", "ok", "failed"),
    *("run", "", "Done"),
)
VALUES = st.one_of(
    st.sampled_from(["stdout", "stderr", "done", "raised", "exited", "text/plain", "image/png", "", "..", "\0", "é"]),
    st.integers(-2, 70),
    st.sampled_from([2**31, 2**53, 2**63, 2**70, 1e308, -1, None, True, [], {}]),
    st.text(max_size=5),
)
FIELDS = ("stream", "item", "type", "value", "ending", "code", "error", "message", "size", "next", "version", "omitted")
WELL_FORMED: dict[str, dict[str, Any]] = {
    "output": {"stream": "stdout"},
    "item": {"item": 1, "type": "text/plain", "value": True},
    "done": {"ending": "done"},
    "exited": {"code": 0},
    "data": {"size": 3},
    "entries": {},
    "changes": {},
    "failed": {"error": "ENOENT", "message": "no"},
}


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, dict[str, Any], bytes, int]:
    """Kind, fields, payload, and to which request it pretends to belong: 0 none, 1 the newest, 2 the one before."""
    kind = draw(st.sampled_from(KINDS))
    fields = dict(WELL_FORMED.get(kind, {}))
    if draw(st.booleans()):
        fields |= draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
    payload = draw(
        st.one_of(st.binary(max_size=300), st.sampled_from([b"[]", b'[{"path":"a","kind":"created"}]', b"[" * 99]))
    )
    return kind, fields, payload, draw(st.integers(0, 2))


STEPS = st.lists(st.one_of(frames(), st.binary(max_size=20), st.sampled_from(["cut", "hang up"])), max_size=12)
CALLS = ("code", "command", "read", "list", "stat", "watch", "write")


async def call(session: Session, name: str) -> object:
    match name:
        case "code":
            return await session.run_code("1")
        case "command":
            return await session.run_command(["x"], stdin=b"in")
        case "read":
            return await session.read_file("f", max_bytes=1000)
        case "list":
            return await session.list_files(most=50)
        case "stat":
            return await session.stat("f")
        case "write":
            return await session.write_file("f", b"x" * 100)
        case _:
            async with session.watch() as watch:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        async for change in watch:
                            return change
            return None


def encoded(kind: str, fields: dict[str, Any], payload: bytes, request: int) -> bytes:
    header = json.dumps({**fields, "kind": kind, "id": request}).encode()
    return struct.pack(">II", len(header), len(payload)) + header + payload


async def talk(steps: list[Any], name: str) -> None:
    """One call of the host's, answered by these steps."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(Session.open(ours, LIMITS))
    await loop.sock_sendall(theirs, encoded("hello", {"version": VERSION, "python": "3", "pid": 1}, b"", 0))
    await loop.sock_sendall(theirs, encoded("ready", {}, b"", 0))
    session = await opening
    calling = asyncio.create_task(call(session, name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    newest = session._last_id
    try:
        for step in steps:
            if step == "hang up":
                break
            if step == "cut":
                content = encoded("output", {"stream": "stdout"}, b"x" * 100, newest)[:50]
            elif isinstance(step, bytes):
                content = step
            else:
                kind, fields, payload, whose = step
                content = encoded(kind, fields, payload, (0, newest, newest - 1)[whose])
            with contextlib.suppress(OSError):
                await loop.sock_sendall(theirs, content)
        if steps and steps[-1] == "hang up":
            theirs.close()
        async with asyncio.timeout(2):
            try:
                found = await calling
            except SandboxError:
                found = None
        if isinstance(found, Execution):
            assert len(found.stdout) + len(found.stderr) <= LIMITS.output_bytes
            assert (
                sum(len(part) for bundle in (found.value or {}, *found.displays) for part in bundle.values()) < 20_000
            )
        assert not session.busy
    finally:
        await session.close()
        theirs.close()


@given(STEPS, st.sampled_from(CALLS))
@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=min(60, settings.default.max_examples)
)
@pytest.mark.may_block("hypothesis draws on the loop's thread")
def test_any_conversation_ends_typed_and_in_time(steps: list[Any], name: str) -> None:
    asyncio.run(talk(steps, name))


@given(st.binary(min_size=1, max_size=400))
@settings(deadline=None, max_examples=min(25, settings.default.max_examples))
def test_any_bytes_instead_of_a_greeting_are_refused_in_time(content: bytes) -> None:
    async def greet() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(theirs, content)
            async with asyncio.timeout(2):
                with pytest.raises(SandboxError):
                    await Session.open(ours, LIMITS)

    asyncio.run(greet())
