"""Frames on the runner's connection: two lengths, a JSON header, raw bytes. The twin of the host's `wire`.

    4 bytes header length | 4 bytes payload length | header (JSON object with `kind`) | payload

Used by `link`. No I/O and no meaning here.
"""

from __future__ import annotations

import json
import struct
from typing import Any

VERSION = 2
PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024

Header = dict[str, Any]


class FrameInvalid(Exception):
    """The other side does not speak this protocol."""


def encode(kind: str, fields: Header, payload: bytes = b"") -> bytes:
    header = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameInvalid(f"a frame of {len(header)} + {len(payload)} bytes is too large")
    return PREFIX.pack(len(header), len(payload)) + header + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Header and payload length. Raises FrameInvalid."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise FrameInvalid(f"a frame of {header_bytes} + {payload_bytes} bytes is too large")
    return header_bytes, payload_bytes


def decode(header: bytes) -> Header:
    """Raises FrameInvalid."""
    try:
        parsed = json.loads(header)
    except ValueError as error:
        raise FrameInvalid("the header is no JSON") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("kind"), str):
        raise FrameInvalid("the header names no kind")
    return parsed


def chunks(content: bytes) -> list[bytes]:
    """Pieces that fit a frame each; one empty piece for nothing."""
    return [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)] or [b""]
