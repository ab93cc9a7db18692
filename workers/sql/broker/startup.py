"""The first bytes of a connection, read: what does this client want? Pure.

Called by `session` until a client is let in. TLS and GSS encryption are refused with `N`: the socket is a local one.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.sql.broker.errors import Fatal
from workers.sql.broker.frames import PAIR, SIZE, clean, message

MOST_BYTES = 10_000
"""As PostgreSQL itself limits it."""
CANCEL_CODE = (1234 << 16) | 5678
SSL_CODE = (1234 << 16) | 5679
GSS_CODE = (1234 << 16) | 5680
NEWEST_MINOR = 2
"""3.2 differs from 3.0 in the length of cancel keys only, which may stay at four bytes."""
ENCODINGS = frozenset({"utf8", "unicode", "sqlascii", "auto"})
"""What a client may name as its encoding: everything travels as UTF-8, and SQL_ASCII means `as it is`."""


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """Answered with one byte, `N`."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel what the holder of this key runs."""

    key: bytes
    """Process id and secret as BackendKeyData carried them."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A client that wants a session."""

    minor: int
    parameters: dict[str, str]
    unknown: tuple[str, ...] = ()
    """Protocol options (`_pq_.`) that are not known here."""

    @property
    def negotiation(self) -> bytes:
        """NegotiateProtocolVersion where the client asked for more than there is, else nothing."""
        if self.minor <= NEWEST_MINOR and not self.unknown:
            return b""
        version = (3 << 16) | min(self.minor, NEWEST_MINOR)
        names = b"".join(clean(name) for name in self.unknown)
        return message(b"v", PAIR.pack(version, len(self.unknown)) + names)


Opening = EncryptionRequest | CancelRequest | Hello


def read_opening(data: bytes) -> tuple[Opening, int] | None:
    """The first packet and its size; None while it is incomplete. Raises Fatal."""
    if len(data) < 4:
        return None
    (length,) = SIZE.unpack_from(data)
    if not 8 <= length <= MOST_BYTES:
        raise Fatal("08P01", "these bytes begin no PostgreSQL session", hint="is this a PostgreSQL client?")
    if len(data) >= 8:
        _check_code(SIZE.unpack_from(data, 4)[0])
    if len(data) < length:
        return None
    (code,) = SIZE.unpack_from(data, 4)
    body = data[8:length]
    if code in (SSL_CODE, GSS_CODE):
        return EncryptionRequest(), length
    if code == CANCEL_CODE:
        return CancelRequest(body), length
    return _hello(code & 0xFFFF, body), length


def _check_code(code: int) -> None:
    if code not in (SSL_CODE, GSS_CODE, CANCEL_CODE) and code >> 16 != 3:
        major, minor = code >> 16, code & 0xFFFF
        raise Fatal("08P01", f"protocol version {major}.{minor} is not supported: 3.0 and 3.2 are")


def _hello(minor: int, body: bytes) -> Hello:
    parts = body.split(b"\0")
    # name, value, name, value, ..., and an empty name as the end
    if len(parts) < 2 or parts[-1] or parts[-2] or len(parts) % 2:
        raise Fatal("08P01", "the startup message is malformed")
    try:
        texts = [part.decode() for part in parts[:-2]]
    except UnicodeDecodeError:
        raise Fatal("08P01", "the startup message is not UTF-8") from None
    parameters = dict(zip(texts[::2], texts[1::2], strict=True))
    unknown = tuple(name for name in parameters if name.startswith("_pq_."))
    for name in unknown:
        del parameters[name]
    encoding = parameters.get("client_encoding", "UTF8")
    if encoding.lower().strip("'\"").replace("-", "").replace("_", "") not in ENCODINGS:
        raise Fatal("22023", f"client_encoding {encoding[:40]!r} is not offered", hint="use UTF8")
    if parameters.get("replication", "false").lower() not in ("", "false", "off", "no", "0"):
        raise Fatal("0A000", "replication is not offered")
    parameters.pop("client_encoding", None)
    return Hello(minor, parameters, unknown)
