"""Connections under bad luck: a server that falls silent after the login, and a line whose front cannot be served."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from workers.actors import PoolActor
from workers.errors import DatabaseUnavailable, VolumeUnavailable
from workers.sql.connection import libpq_uri
from workers.sql.lender import Lender
from workers.sql.line import MAX_OVERTAKEN, Sort
from workers.sql.pool import Pool
from workers.sql.spec import PoolSpec
from workers.volumes.spec import VolumeSpec


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


HELLO = b"".join(
    (
        message(b"R", struct.pack("!i", 0)),
        message(b"S", b"server_version\x0015.0\x00"),
        message(b"S", b"client_encoding\x00UTF8\x00"),
        message(b"K", struct.pack("!ii", 1, 2)),
        message(b"Z", b"I"),
    )
)


@asynccontextmanager
async def silent_server() -> AsyncIterator[Callable[[], PoolSpec]]:
    """Lets everybody in and never answers a statement."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        size = struct.unpack("!i", await reader.readexactly(4))[0]
        await reader.readexactly(size - 4)
        writer.write(HELLO)
        await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield lambda: PoolSpec(
            database="silent", dsn=f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable", connect_timeout_s=0.3
        )
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_a_server_that_falls_silent_after_the_login_does_not_hang_the_pool() -> None:
    async with silent_server() as spec:
        pool = Pool(spec(), {})
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await asyncio.wait_for(pool.start(), 3.0)
        assert pool.status().connections == 0


async def test_a_pool_whose_volume_is_away_says_so_each_time_instead_of_dying() -> None:
    spec = PoolSpec(database="d", dsn="postgresql://u:p@127.0.0.1:1/d")
    actor = PoolActor(spec, {"results": VolumeSpec(name="results", url="file:///proc/nowhere")})
    for _ in range(2):
        with pytest.raises(VolumeUnavailable):
            await actor.submit([])
    assert await actor.cancel("job") is False and await actor.drain(0.1) is True
    await actor.close()


class Loan:
    tenant: str | None = None
    is_open = True

    async def reset_for(self, tenant: str) -> None:
        self.tenant = tenant

    async def close(self) -> None:
        self.is_open = False


async def test_extracts_that_wait_for_each_other_do_not_starve_the_small_statements_behind_them() -> None:
    async def open_loan() -> Loan:
        return Loan()

    spec = PoolSpec(database="d", dsn="postgresql://x", budget=2, bulk_budget=1)
    lender = Lender(spec, open_loan, open_loan)
    extract = await lender.acquire("a", 1.0, sort=Sort.Bulk)
    small = await lender.acquire("a", 1.0)
    waiting = [asyncio.create_task(lender.acquire("a", 5.0, sort=Sort.Bulk)) for _ in range(4 * MAX_OVERTAKEN)]
    await asyncio.sleep(0)
    behind = asyncio.create_task(lender.acquire("a", 5.0))
    await asyncio.sleep(0)
    lender.release(small)
    assert await asyncio.wait_for(behind, 1.0) is small
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    lender.release(extract, sort=Sort.Bulk)


def test_a_volumes_options_and_a_databases_password_stand_in_no_repr() -> None:
    volume = VolumeSpec(name="v", url="s3://b", options={"secret_access_key": "geheim"})
    pool = PoolSpec(database="d", dsn="postgresql://u:geheim@h/d")
    for shown in (repr(volume), str(volume), f"{[volume]!r} {volume}", repr(pool), str({"d": pool})):
        assert "geheim" not in shown
    assert "geheim" not in repr(list(volume.__rich_repr__()))


def test_libpq_gives_up_on_a_host_that_vanished() -> None:
    uri = libpq_uri(PoolSpec(database="d", dsn="postgresql://u:p@h/d?sslmode=disable"))
    assert "&tcp_user_timeout=30000" in uri and "&keepalives_idle=15" in uri
