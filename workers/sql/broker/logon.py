"""Logs on to the real server: TLS, authentication, the pinned settings; answers with a connection that is ready.

Called by `backend`. Protocol 3.0 of https://www.postgresql.org/docs/current/protocol-flow.html. Raises workers.errors
only; no message holds the DSN, a host name or the server's own words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from workers.errors import DatabaseError, DatabaseRefusesRole, DatabaseUnavailable, WorkerError
from workers.sql.broker.address import Address
from workers.sql.broker.frames import PAIR, SIZE, clean, fields_of, message
from workers.sql.broker.scram import Scram, md5_answer
from workers.sql.broker.startup import CANCEL_CODE, SSL_CODE
from workers.sql.faults import from_sqlstate

MOST_BYTES = 64 * 1024
"""Longest message of a server that has not let us in yet."""
_OK, _PASSWORD, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


@dataclass(frozen=True, slots=True)
class Logon:
    """A connection that the server said is ready."""

    transport: asyncio.Transport
    writer: asyncio.StreamWriter
    """Owns the transport: it closes it when nobody refers to it any more."""
    parameters: dict[str, str]
    key: bytes
    """Process id and secret, for cancelling."""


async def log_on(address: Address, settings: Mapping[str, str], timeout_s: float) -> Logon:
    """Connect and authenticate. Raises DatabaseUnavailable, DatabaseRefusesRole, ConfigurationError."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(address)
            names = {"user": address.user, "database": address.database, **settings, **dict(address.settings)}
            body = b"".join(clean(name) + clean(value) for name, value in names.items()) + b"\0"
            writer.write(SIZE.pack(len(body) + 8) + SIZE.pack(3 << 16) + body)
            await _authenticate(reader, writer, address)
            parameters, key = await _greeting(reader)
            # Not an isinstance check: uvloop's transports are no subclass of asyncio's.
            return Logon(cast(asyncio.Transport, writer.transport), writer, parameters, key)
    except BaseException as error:
        if writer is not None:
            writer.transport.abort()
        if isinstance(error, WorkerError) or not isinstance(error, Exception):
            raise
        if isinstance(error, OSError | EOFError | TimeoutError | ValueError):
            raise DatabaseUnavailable("the database does not answer in time or refuses the connection") from None
        raise DatabaseError(f"the broker failed to log on ({type(error).__name__})") from None


async def send_cancel(address: Address, key: bytes, timeout_s: float) -> None:
    """Have the server cancel what the connection with this key runs; returns when it has been told. Never raises."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(address)
            writer.write(SIZE.pack(8 + len(key)) + SIZE.pack(CANCEL_CODE) + key)
            await reader.read()
    except (OSError, EOFError, TimeoutError, WorkerError):
        pass  # the statement has a deadline of its own
    finally:
        if writer is not None:
            writer.transport.abort()


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.socket_path:
        return await asyncio.open_unix_connection(address.socket_path)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    # In a thread: it may read certificates.
    context = await asyncio.to_thread(address.tls) if address.wants_tls else None
    if context is None:
        return reader, writer
    writer.write(PAIR.pack(8, SSL_CODE))
    answer = await reader.readexactly(1)
    if answer == b"S":
        await writer.start_tls(context, server_hostname=address.host)
    elif address.tls_is_required:
        writer.transport.abort()
        raise DatabaseRefusesRole("the server offers no TLS, and the DSN requires it", hint="see sslmode in the DSN")
    return reader, writer


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address) -> None:
    scram: Scram | None = None
    while True:
        kind, body = await _receive(reader)
        if kind != b"R" or len(body) < 4:
            raise DatabaseUnavailable("the server does not speak PostgreSQL's protocol")
        (method,) = SIZE.unpack_from(body)
        rest = body[4:]
        if method == _OK:
            if scram is not None and not scram.is_verified:
                raise DatabaseRefusesRole("the server did not prove that it knows the role's password")
            return
        if method == _PASSWORD:
            writer.write(message(b"p", clean(address.password)))
        elif method == _MD5:
            writer.write(message(b"p", md5_answer(address.user, address.password, rest[:4]) + b"\0"))
        elif method == _SASL and b"SCRAM-SHA-256" in rest.split(b"\0"):
            scram = Scram(address.password)
            writer.write(message(b"p", clean("SCRAM-SHA-256") + SIZE.pack(len(scram.first)) + scram.first))
        elif method == _SASL_CONTINUE and scram is not None:
            # In a thread: thousands of rounds of a hash, as many as the server says.
            writer.write(message(b"p", await asyncio.to_thread(scram.final, rest)))
        elif method == _SASL_FINAL and scram is not None:
            scram.verify(rest)
        else:
            raise DatabaseRefusesRole("the server asks for a kind of authentication that the broker does not know")


async def _greeting(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """What the server tells between letting us in and being ready."""
    parameters: dict[str, str] = {}
    key = b""
    while True:
        kind, body = await _receive(reader)
        if kind == b"S":
            name, value = body.split(b"\0")[:2]
            parameters[name.decode()] = value.decode()
        elif kind == b"K":
            key = body
        elif kind == b"Z":
            return parameters, key
        elif kind not in (b"N", b"v"):
            raise DatabaseUnavailable("the server does not speak PostgreSQL's protocol")


async def _receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    header = await reader.readexactly(5)
    (length,) = SIZE.unpack_from(header, 1)
    if not 4 <= length <= MOST_BYTES:
        raise DatabaseUnavailable("the server does not speak PostgreSQL's protocol")
    body = await reader.readexactly(length - 4)
    if header[:1] == b"E":
        fields = fields_of(body)
        raise from_sqlstate(fields.get("C", "58000"), fields.get("M", ""), "")
    return header[:1], body
