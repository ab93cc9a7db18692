"""Frames from a sandbox: whatever the bytes are, they are a message of the schema or they are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox import wire
from workers.sandbox.errors import ProtocolBroken
from workers.sandbox.runner import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = ("hello", "ready", "output", "item", "done", "exited", "took", "data", "entries", "ok", "failed")
FIELDS = ("id", "stream", "item", "type", "value", "ending", "code", "error", "message", "size", "more", "version")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(header: bytes) -> None:
    try:
        message = wire.decode(header)
    except ProtocolBroken:
        return
    assert isinstance(message, wire.Message)


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_fields_of_a_known_kind_are_within_their_ranges_or_refused(kind: str, fields: dict[str, Any]) -> None:
    try:
        message = wire.decode(json.dumps({**fields, "kind": kind}).encode())
    except ProtocolBroken:
        return
    assert 0 <= message.id <= 2**53
    if isinstance(message, wire.Item):
        assert 0 <= message.item < 64
    if isinstance(message, wire.Exited):
        assert -64 <= message.code <= 255


@given(st.binary(max_size=400))
def test_any_payload_is_a_list_of_files_or_refused(payload: bytes) -> None:
    try:
        entries = wire.decode_entries(payload)
    except ProtocolBroken:
        return
    assert len(entries) <= wire.MAX_ENTRIES


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_lengths_are_within_the_limits_or_refused(header_bytes: int, payload_bytes: int) -> None:
    fits = 0 < header_bytes <= wire.MAX_HEADER_BYTES and payload_bytes <= wire.MAX_PAYLOAD_BYTES
    prefix = wire.PREFIX.pack(header_bytes, payload_bytes)
    if fits:
        assert wire.lengths(prefix) == (header_bytes, payload_bytes)
    else:
        with pytest.raises(ProtocolBroken):
            wire.lengths(prefix)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 60_000,
        b'{"kind":"output","id":1,"stream":"stdout","more":1}',
        b'{"kind":"run","id":1}',
        b'{"kind":"done","ending":"done","cpu_s":1e400}',
        b'{"kind":"item","id":1,"item":0,"type":"text/html\\r\\nSet-Cookie: a","value":true}',
        b'{"kind":"item","id":1,"item":0,"type":"text/html\\n","value":true}',
        b'{"id":1}',
        b"",
    ],
    ids=[
        *("deep", "unknown field", "kind of the host", "infinite", "line break in a type", "line break after a type"),
        *("no kind", "empty"),
    ],
)
def test_a_header_that_no_runner_sends_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        wire.decode(header)


@given(st.binary(max_size=2000), st.integers(0, 2**53))
def test_what_the_host_encodes_the_runner_decodes(payload: bytes, request: int) -> None:
    frame = wire.encode("run", payload, id=request, name="Grüße")
    header_bytes, payload_bytes = frames.lengths(frame[: frames.PREFIX.size])
    header = frame[frames.PREFIX.size :][:header_bytes]
    assert frames.decode(header) == {"kind": "run", "id": request, "name": "Grüße"}
    assert frame[frames.PREFIX.size + header_bytes :] == payload
    assert len(payload) == payload_bytes


@given(st.binary(max_size=2000))
def test_what_the_runner_encodes_the_host_decodes(payload: bytes) -> None:
    frame = frames.encode("output", {"id": 3, "stream": "stderr"}, payload)
    header_bytes, _ = wire.lengths(frame[: wire.PREFIX.size])
    message = wire.decode(frame[wire.PREFIX.size :][:header_bytes])
    assert message == wire.Output(id=3, stream="stderr")


def test_both_sides_have_the_same_limits() -> None:
    ours = (wire.VERSION, wire.MAX_HEADER_BYTES, wire.MAX_PAYLOAD_BYTES, wire.CHUNK_BYTES)
    assert ours == (frames.VERSION, frames.MAX_HEADER_BYTES, frames.MAX_PAYLOAD_BYTES, frames.CHUNK_BYTES)


def test_a_frame_of_ours_that_is_too_large_is_an_error_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="too large"):
        wire.encode("run", b"x" * (wire.MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(frames.FrameInvalid):
        frames.encode("output", {"x": "y" * wire.MAX_HEADER_BYTES})
