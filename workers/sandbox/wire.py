"""Frames between a host and the runner in a sandbox: framing and schemas of the host's side. Pure: no I/O.

    4 bytes header length | 4 bytes payload length | header (JSON object with `kind`) | payload (raw bytes)

Every byte that comes from a sandbox is hostile. A frame is refused by its first eight bytes when it is too large, its
header by a closed schema: an unknown kind, field or type, a number out of range. Payloads stay opaque bytes. Used by
`session`; the twin inside is `runner/frames.py`. docs/sandboxes.md is the prose.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal

import msgspec

from workers.sandbox.errors import ProtocolBroken

VERSION = 2
PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024
MAX_ENTRIES = 1000

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Line = Annotated[str, msgspec.Meta(max_length=4096)]
Short = Annotated[str, msgspec.Meta(max_length=200)]
Cursor = Annotated[str, msgspec.Meta(max_length=1024)]
MimeType = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[a-z]+/[A-Za-z0-9!#$&^_.+;= -]+\Z")]
Stream = Literal["stdout", "stderr"]


class _FromSandbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What a runner may say. `id` is the request it belongs to."""

    id: Id = 0


class Hello(_FromSandbox, frozen=True, tag="hello"):
    """The first frame of every connection."""

    version: Id
    python: Short
    pid: Id


class Ready(_FromSandbox, frozen=True, tag="ready"):
    """Seeds and clocks are those of the host's epoch now."""


class Output(_FromSandbox, frozen=True, tag="output"):
    """Payload: bytes that were written to stdout or stderr. `id` 0: while nothing that we asked for was running."""

    stream: Stream


class Item(_FromSandbox, frozen=True, tag="item"):
    """Payload: the next bytes of one MIME type of one displayed item."""

    item: Annotated[int, msgspec.Meta(ge=0, lt=64)]
    type: MimeType
    value: bool
    """Whether the item is the value of the last expression."""


class Done(_FromSandbox, frozen=True, tag="done"):
    """The code has ended. Payload: the traceback as text."""

    ending: Literal["done", "raised", "interrupted", "exited"]
    code: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    error: Short = ""
    message: Line = ""
    omitted: Id = 0
    """MIME types that were left out because they would have gone over the limit."""
    cpu_s: Amount = 0.0
    peak_bytes: Size = 0


class Exited(_FromSandbox, frozen=True, tag="exited"):
    """The command has ended; negative: by that signal."""

    code: Annotated[int, msgspec.Meta(ge=-64, le=255)]


class Took(_FromSandbox, frozen=True, tag="took"):
    """The command has taken the piece of stdin; the next may come, unless it has closed its input."""

    closed: bool = False


class Data(_FromSandbox, frozen=True, tag="data"):
    """Payload: a piece of a file that has `size` bytes."""

    size: Size


class Entries(_FromSandbox, frozen=True, tag="entries"):
    """Payload: JSON of a list of Entry."""

    next: Cursor = ""
    """Where the next page begins, in the runner's own words; empty: this was the last."""


class Changes(_FromSandbox, frozen=True, tag="changes"):
    """Payload: JSON of a list of Change. The first one, perhaps empty, says that the watch has begun."""


class Ok(_FromSandbox, frozen=True, tag="ok"):
    """Done as asked."""


class Refused(_FromSandbox, frozen=True, tag="failed"):
    """Not done: the name of an errno and its text."""

    error: Short
    message: Line


Message = Hello | Ready | Output | Item | Done | Exited | Took | Data | Entries | Changes | Ok | Refused


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file inside, as the sandbox describes it: never a path to use on the host."""

    name: Line
    kind: Literal["file", "folder", "link", "other"]
    size_bytes: Size
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    changed_s: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happened to a file below a watched folder. `lost`: more than anybody kept; look for yourself."""

    path: Line
    """Relative to what is watched."""
    kind: Literal["created", "changed", "deleted", "lost"]


_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_entries: msgspec.json.Decoder[list[Entry]] = msgspec.json.Decoder(
    Annotated[list[Entry], msgspec.Meta(max_length=MAX_ENTRIES)]
)
_changes: msgspec.json.Decoder[list[Change]] = msgspec.json.Decoder(
    Annotated[list[Change], msgspec.Meta(max_length=MAX_ENTRIES)]
)


def encode(kind: str, payload: bytes = b"", **fields: Any) -> bytes:
    """A frame to the runner. Raises ValueError when it is too large: the caller cuts it into chunks."""
    header = msgspec.json.encode({"kind": kind, **fields})
    if len(header) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(header)} + {len(payload)} bytes is too large")
    return PREFIX.pack(len(header), len(payload)) + header + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Bytes of header and payload that follow. Raises ProtocolBroken before anything of them is read."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if not 0 < header_bytes <= MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ProtocolBroken(f"a frame of {header_bytes} + {payload_bytes} bytes")
    return header_bytes, payload_bytes


def decode(header: bytes) -> Message:
    """Raises ProtocolBroken for everything that is no message of a runner."""
    try:
        return _messages.decode(header)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolBroken(f"a header that is no message: {type(error).__name__}", detail=str(error)[:500]) from error


def decode_entries(payload: bytes) -> list[Entry]:
    """Raises ProtocolBroken, also for a name that no file of a folder can have: it would lead somewhere else."""
    try:
        entries = _entries.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolBroken("a list of files that is none", detail=str(error)[:500]) from error
    if any("/" in entry.name or "\0" in entry.name or entry.name in ("", ".", "..") for entry in entries):
        raise ProtocolBroken("a file name that is none")
    return entries


def decode_changes(payload: bytes) -> list[Change]:
    """Raises ProtocolBroken."""
    try:
        return _changes.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolBroken("a list of changes that is none", detail=str(error)[:500]) from error
