"""Messages of PostgreSQL's frontend/backend protocol, version 3, as bytes. Pure; fuzzed by
tests/unit/sql/broker/test_frames.py.

Source: https://www.postgresql.org/docs/current/protocol-message-formats.html. A message is a type byte, a length of
four bytes that counts itself, and the body. Nothing is allocated by what a length claims: a message above its limit is
refused by its header.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from workers.sql.broker.errors import Fatal, Trouble

SIZE: Final = Struct(">I")
PAIR: Final = Struct(">II")
SHORT: Final = Struct(">h")
HEADER_BYTES: Final = 5

MOST_BYTES: Final = 16 * 1024 * 1024
"""Longest message that carries data: Bind, CopyData."""
MOST_TEXT_BYTES: Final = 256 * 1024
"""Longest message of any other type; the policy's own limit for a statement is lower."""
_CARRIERS: Final = frozenset(b"Bd")
KNOWN: Final = frozenset(b"QPBDECSHXFdcfp")
"""Types that a client may send."""


def most_bytes(kind: int) -> int:
    """Longest message of this type that a client may send, its length field included."""
    return MOST_BYTES if kind in _CARRIERS else MOST_TEXT_BYTES


def frame_size(data: bytes, position: int) -> int:
    """Bytes of the client's message that begins at `position`, type byte included; 0 while its header is incomplete.

    Raises Fatal for a type that no client may send and for a length that no such message may have.
    """
    if position >= len(data):
        return 0
    kind = data[position]
    if kind not in KNOWN:
        raise Fatal("08P01", f"no message of type {kind:#04x} is known", hint="is this a PostgreSQL client?")
    if len(data) - position < HEADER_BYTES:
        return 0
    (length,) = SIZE.unpack_from(data, position + 1)
    if length < 4:
        raise Fatal("08P01", f"a message says that it is {length} bytes long, less than its own header")
    if length > most_bytes(kind):
        limit = most_bytes(kind)
        raise Fatal("54000", f"a message of {length} bytes is too long: {limit} are allowed", hint="use COPY")
    return int(length) + 1


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message."""
    return kind + SIZE.pack(len(body) + 4) + body


def text(data: bytes, start: int, end: int) -> tuple[bytes, int]:
    """A null-terminated string within [start, end) and where the next field begins. Raises Trouble."""
    stop = data.find(b"\0", start, end)
    if stop < 0:
        raise Trouble("08P01", "a string in a message does not end")
    return data[start:stop], stop + 1


def clean(value: str) -> bytes:
    """A text as messages carry it."""
    return value.replace("\0", " ").encode("utf-8", "replace") + b"\0"


def error_response(trouble: Trouble, *, kind: bytes = b"E") -> bytes:
    """ErrorResponse; NoticeResponse with kind `N`."""
    severity = trouble.severity if kind == b"E" else "WARNING"
    fields = [("S", severity), ("V", severity), ("C", trouble.sqlstate), ("M", trouble.message)]
    if trouble.rule:
        fields.append(("D", f"rule {trouble.rule}"))
    if trouble.hint:
        fields.append(("H", trouble.hint))
    return message(kind, b"".join(name.encode() + clean(value) for name, value in fields) + b"\0")


def fields_of(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, whatever is wrong with it."""
    found: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            found.setdefault(chr(part[0]), part[1:].decode("utf-8", "replace"))
    return found


def row_description(names: tuple[str, ...]) -> bytes:
    """Columns of type text, in text format."""
    columns = b"".join(clean(name) + b"\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0" for name in names)
    return message(b"T", SHORT.pack(len(names)) + columns)


def data_row(values: tuple[str | None, ...]) -> bytes:
    """One row; text and binary format of a text are the same bytes."""
    cells = []
    for value in values:
        raw = None if value is None else value.encode()
        cells.append(b"\xff\xff\xff\xff" if raw is None else SIZE.pack(len(raw)) + raw)
    return message(b"D", SHORT.pack(len(values)) + b"".join(cells))


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", clean(tag))


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", clean(name) + clean(value))


def parse(name: bytes, sql: bytes, types: bytes = b"\0\0") -> bytes:
    """Parse; `types` are the count and the object ids of the parameters as they stand in the message."""
    return message(b"P", name + b"\0" + sql + b"\0" + types)


def bind_nothing(statement: bytes) -> bytes:
    """Bind to the unnamed portal, without parameters, results as text."""
    return message(b"B", b"\0" + statement + b"\0\0\0\0\0\0\0")


READY: Final = {status: message(b"Z", status.encode()) for status in "ITE"}
PARSE_COMPLETE: Final = message(b"1")
BIND_COMPLETE: Final = message(b"2")
CLOSE_COMPLETE: Final = message(b"3")
NO_DATA: Final = message(b"n")
NO_PARAMETERS: Final = message(b"t", b"\0\0")
EMPTY_QUERY: Final = message(b"I")
SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
DESCRIBE_PORTAL: Final = message(b"D", b"P\0")
EXECUTE_ALL: Final = message(b"E", b"\0\0\0\0\0")
COPY_FAIL: Final = message(b"f", b"the client is gone\0")
TERMINATE: Final = message(b"X")
AUTHENTICATED: Final = message(b"R", b"\0\0\0\0")
