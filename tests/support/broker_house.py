"""A broker on the test server, in a thread with a loop of its own so that blocking drivers can be used against it; and
a client that speaks raw bytes. Used by the broker's tests.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop

from cluster.local.postgres import PostgresServer
from tests.support.pools import make_role
from workers.sql.broker.broker import SOCKET_NAME, Broker
from workers.sql.broker.door import Limits
from workers.sql.broker.trail import Trail
from workers.sql.judge import Judge
from workers.sql.policy.document import load_policy
from workers.sql.pool import Pool
from workers.sql.spec import PoolSpec

TABLES = ("flights", "weather", "planes", "airports", "airlines")
FLIGHTS_POLICY = f"""
dialect = "postgres"
tables = {list(TABLES)}
max_rows = 1_000_000
"""
WRITES_POLICY = """
dialect = "postgres"
mode = "writes"
tables = ["airlines", "notes"]
[[writes]]
table = "notes"
kinds = ["insert", "update", "delete"]
"""
T = TypeVar("T")


class BrokerHouse:
    """One broker with its pool. `door` opens further doors; everything goes at `close`."""

    def __init__(self, spec: PoolSpec, policy: str, limits: Limits | None = None) -> None:
        self.spec = spec
        self._limits = limits or Limits(most_sessions=600)
        self._policy = load_policy(policy)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._folders: list[Path] = []
        self.trails: dict[Path, list[bytes]] = {}
        self.call(self._open())

    async def _open(self) -> None:
        self._judge = Judge()
        await self._judge.start()
        self.pool = Pool(self.spec, {})
        await self.pool.start()
        self.broker = Broker(self.spec, self._policy, self._judge, self.pool.lender, self.pool.catalog, self._limits)
        await self.broker.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = 30.0) -> T:
        """Have it done on the broker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def door(self, tenant: str = "acme", *, most_sessions: int = 0) -> Path:
        """The folder of a new door's socket."""
        folder = Path(tempfile.mkdtemp(prefix="sp-"))
        self._folders.append(folder)
        lines: list[bytes] = self.trails.setdefault(folder, [])

        async def write(_number: int, data: bytes) -> None:
            lines.append(data)

        serve = self.broker.serve(folder / SOCKET_NAME, tenant, Trail(write), most_sessions=most_sessions)
        self.call(serve)
        return folder

    def withdraw(self, folder: Path) -> None:
        self.call(self.broker.withdraw(folder / SOCKET_NAME))

    def facts(self) -> dict[str, int]:
        """Counts that must come back to where they were."""

        async def look() -> dict[str, int]:
            lender = self.pool.lender
            return {
                "sessions": self.broker.session_count(),
                "open": lender.open_count,
                "lent": lender.open_count - lender.idle_count,
                "waiting": lender.waiting_count,
            }

        return self.call(look())

    def close(self) -> None:
        async def end() -> None:
            await self.broker.close()
            await self.pool.close()
            await self._judge.close()

        self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def broker_on(
    postgres: PostgresServer, *, writes: bool = False, policy: str = "", limits: Limits | None = None, **fields: Any
) -> Iterator[BrokerHouse]:
    """A broker on the database `flights`, under a role of its own."""
    role = f"wire_{secrets.token_hex(4)}"
    tables: dict[str, tuple[str, ...]] = {f"public.{name}": () for name in TABLES}
    written: dict[str, tuple[str, ...]] = {}
    if writes:
        postgres.execute("CREATE TABLE IF NOT EXISTS notes (id int PRIMARY KEY, body text)", "flights")
        tables["public.notes"] = ()
        written = {"public.notes": ("INSERT", "UPDATE", "DELETE")}
    dsn = make_role(postgres, "flights", tables, written, role=role)
    wanted: dict[str, Any] = {"budget": 4, "wire_budget": 4, **fields}
    spec = PoolSpec(database="flights", dsn=dsn, writes=writes, write_tables=written, **wanted)
    house = BrokerHouse(spec, policy or (WRITES_POLICY if writes else FLIGHTS_POLICY), limits)
    try:
        yield house
    finally:
        house.close()


class RawClient:
    """Bytes to and from a door. Every wait has a deadline."""

    def __init__(self, folder: Path, *, hello: bool = True, timeout_s: float = 10.0, **parameters: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        # First the connection, then the deadline: with one, a full backlog would be an error instead of a wait.
        self.socket.connect(str(folder / SOCKET_NAME))
        self.socket.settimeout(timeout_s)
        self._rest = b""
        self.key = b""
        self.parameters: dict[str, str] = {}
        if hello:
            self.send(opening(3 << 16, {"user": "x", "database": "flights", **parameters}))
            for kind, body in self.until_ready():
                if kind == b"K":
                    self.key = body
                elif kind == b"S":
                    name, value = body.split(b"\0")[:2]
                    self.parameters[name.decode()] = value.decode()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[bytes, bytes]:
        """One message; (b"", b"") at the end of the stream."""
        while len(self._rest) < 5 or len(self._rest) < self._length():
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return b"", b""
            self._rest += data
        length = self._length()
        kind, body, self._rest = self._rest[:1], self._rest[5:length], self._rest[length:]
        return kind, body

    def _length(self) -> int:
        return int(struct.unpack(">I", self._rest[1:5])[0]) + 1

    def until_ready(self) -> list[tuple[bytes, bytes]]:
        """Messages up to ReadyForQuery, or the end of the stream."""
        found = []
        while True:
            kind, body = self.receive()
            if not kind:
                return found
            found.append((kind, body))
            if kind == b"Z":
                return found

    def query(self, sql: str) -> list[tuple[bytes, bytes]]:
        """By the simple protocol."""
        self.send(frame(b"Q", sql.encode() + b"\0"))
        return self.until_ready()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def opening(code: int, parameters: dict[str, str]) -> bytes:
    body = struct.pack(">I", code) + b"".join(f"{n}\0{v}\0".encode() for n, v in parameters.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def sqlstate_in(messages: list[tuple[bytes, bytes]]) -> str:
    """The SQLSTATE of the first error; empty without one."""
    for kind, body in messages:
        if kind == b"E":
            return next(part[1:].decode() for part in body.split(b"\0") if part[:1] == b"C")
    return ""


def kinds_of(messages: list[tuple[bytes, bytes]]) -> str:
    return b"".join(kind for kind, _ in messages).decode()
