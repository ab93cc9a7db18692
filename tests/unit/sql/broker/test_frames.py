"""The reader of messages is never led astray: it takes whole messages, refuses by the header, raises nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sql.broker.errors import Fatal, Trouble
from workers.sql.broker.frames import (
    KNOWN,
    MOST_BYTES,
    MOST_TEXT_BYTES,
    error_response,
    fields_of,
    frame_size,
    message,
    text,
)
from workers.sql.broker.startup import CancelRequest, EncryptionRequest, Hello, read_opening

messages = st.builds(message, st.sampled_from([bytes([kind]) for kind in KNOWN]), st.binary(max_size=50))


@given(st.lists(messages, max_size=6), st.binary(max_size=8))
def test_messages_come_out_as_they_went_in_however_they_arrive(sent: list[bytes], rest: bytes) -> None:
    stream = b"".join(sent)
    found, position = [], 0
    while (size := frame_size(stream, position)) and position + size <= len(stream):
        found.append(stream[position : position + size])
        position += size
    assert found == sent


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        size = frame_size(data, 0)
    except Fatal:
        pass
    else:
        assert size == 0 or 5 <= size <= MOST_BYTES + 1


@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_a_message_of_a_gigabyte_is_refused_by_its_header(kind: int) -> None:
    with pytest.raises(Fatal) as refused:
        frame_size(bytes([kind]) + struct.pack(">I", 1 << 30), 0)
    assert refused.value.sqlstate == "54000"


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_message_shorter_than_its_header_is_refused(length: int) -> None:
    with pytest.raises(Fatal):
        frame_size(b"Q" + struct.pack(">I", length), 0)


def test_only_messages_that_carry_data_may_be_long() -> None:
    long = struct.pack(">I", MOST_TEXT_BYTES + 1)
    assert frame_size(b"B" + long, 0) == MOST_TEXT_BYTES + 2
    with pytest.raises(Fatal):
        frame_size(b"Q" + long, 0)


def test_a_string_without_an_end_is_refused() -> None:
    assert text(b"ab\0cd\0", 0, 6) == (b"ab", 3)
    with pytest.raises(Trouble):
        text(b"abcd", 0, 4)


def test_an_error_keeps_its_code_message_and_rule() -> None:
    body = error_response(Trouble("42501", "no\0nul", hint="try", rule="table.unlisted"))[5:]
    fields = fields_of(body)
    assert (fields["C"], fields["M"], fields["H"]) == ("42501", "no nul", "try")
    assert "table.unlisted" in fields["D"]


@given(st.binary(max_size=64))
def test_no_bytes_break_the_opening(data: bytes) -> None:
    try:
        found = read_opening(data)
    except Fatal:
        pass
    else:
        assert found is None or found[1] <= len(data)


def hello(code: int, *parts: str) -> bytes:
    body = struct.pack(">I", code) + b"".join(part.encode() + b"\0" for part in parts) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def test_an_opening_is_read_in_all_its_forms() -> None:
    assert read_opening(struct.pack(">II", 8, 80877103)) == (EncryptionRequest(), 8)
    assert read_opening(struct.pack(">IIII", 16, 80877102, 7, 9)) == (CancelRequest(struct.pack(">II", 7, 9)), 16)
    found = read_opening(hello(3 << 16, "user", "x", "database", "d"))
    assert found is not None
    assert found[0] == Hello(0, {"user": "x", "database": "d"})
    assert read_opening(hello(3 << 16, "user", "x")[:-1]) is None


def test_a_newer_protocol_is_negotiated_down() -> None:
    found = read_opening(hello((3 << 16) | 99, "user", "x", "_pq_.future", "1"))
    assert found is not None
    opening = found[0]
    assert isinstance(opening, Hello)
    assert opening.negotiation.startswith(b"v") and b"_pq_.future" in opening.negotiation
    found = read_opening(hello((3 << 16) | 2, "user", "x"))
    assert found is not None and isinstance(found[0], Hello) and found[0].negotiation == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">II", 1 << 30, 3 << 16),
        hello(2 << 16, "user", "x"),
        hello(3 << 16, "user", "x", "client_encoding", "LATIN1"),
        hello(3 << 16, "user", "x", "replication", "database"),
        hello(3 << 16, "user"),
    ],
)
def test_what_begins_no_session_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(Fatal):
        read_opening(data)
