"""One bulk extract in a process of its own: `python -m benchmarks.peers.extractors KIND TABLE FOLDER`.

Every kind does the same: read a whole table over one connection that is open before the clock starts, write one
Parquet file (zstd) that appears under its name when it is complete. A small extract comes first, unmeasured. Prints
one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("pool", "adbc", "connectorx", "asyncpg")
WARM_UP = "select * from {table} where month in (1, 2)"
WHOLE = "select * from {table}"
ASYNCPG_ROWS = 20_000
TIMEOUT_S = 300.0

Extract = Callable[[str, Path], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one extract took; memory is the process's peak, imports and drivers included."""

    rows: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    file_bytes: int


def publish(scratch: Path, final: Path) -> None:
    os.replace(scratch, final)


async def with_adbc(dsn: str) -> Extract:
    """ADBC's own recipe: record batches as they come, each written at once."""
    from adbc_driver_postgresql import dbapi  # each kind loads its own driver only: peak memory is compared

    connection = dbapi.connect(dsn, autocommit=True)

    async def extract(sql: str, final: Path) -> None:
        scratch = final.with_suffix(".tmp")
        with connection.cursor() as cursor:
            cursor.execute(sql)
            with (
                cursor.fetch_record_batch() as batches,
                pq.ParquetWriter(scratch, batches.schema, compression="zstd") as out,
            ):
                for batch in batches:
                    out.write_batch(batch)
        publish(scratch, final)

    return extract


async def with_connectorx(dsn: str) -> Extract:
    """ConnectorX as its README shows, binary protocol, to one Arrow table. It opens its own connection every time."""
    import connectorx

    async def extract(sql: str, final: Path) -> None:
        scratch = final.with_suffix(".tmp")
        table = connectorx.read_sql(dsn, sql, return_type="arrow", protocol="binary")
        pq.write_table(table, scratch, compression="zstd")
        publish(scratch, final)

    return extract


async def with_asyncpg(dsn: str) -> Extract:
    """asyncpg with a server-side cursor, which is its way to read more than fits."""
    import asyncpg

    connection = await asyncpg.connect(dsn)

    async def extract(sql: str, final: Path) -> None:
        scratch = final.with_suffix(".tmp")
        out: pq.ParquetWriter | None = None
        async with connection.transaction(readonly=True):
            statement = await connection.prepare(sql)
            names = [attribute.name for attribute in statement.get_attributes()]
            types = [ARROW_OF[attribute.type.name] for attribute in statement.get_attributes()]
            schema = pa.schema(list(zip(names, types, strict=True)))
            cursor = await statement.cursor()
            while rows := await cursor.fetch(ASYNCPG_ROWS):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
                out = out or pq.ParquetWriter(scratch, schema, compression="zstd")
                out.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if out is not None:
            out.close()
        publish(scratch, final)

    return extract


async def with_pool(dsn: str, folder: Path) -> Extract:
    """Sandpool's pool, called as its Ray actor calls it: Parquet part with checksum, through a file volume."""
    from workers.attempt import Statement
    from workers.sql.pool import Pool, PoolSpec
    from workers.volumes.spec import VolumeSpec
    from workers.volumes.store import open_volume

    volume = open_volume(VolumeSpec(name="results", url=folder.as_uri()))
    pool = Pool(PoolSpec(database="flights", dsn=dsn), {"results": volume})
    await pool.start()

    async def extract(sql: str, final: Path) -> None:
        statement = Statement(
            tenant="bench",
            job_id=secrets.token_hex(8),
            attempt_id="1-extract",
            digest="",
            sql=sql,
            timeout_s=TIMEOUT_S,
            max_rows=10**9,
            max_bytes=10**12,
            volume="results",
        )
        attempt = await pool.run(statement)
        if attempt.error is not None:
            raise RuntimeError(f"{attempt.ending}: {attempt.error}")
        (part,) = attempt.manifest.parts
        publish(folder / part.key, final)

    return extract


ARROW_OF: dict[str, pa.DataType] = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "text": pa.string(),
    "float8": pa.float64(),
    "timestamptz": pa.timestamp("us", "UTC"),
}
"""The types of the flights table, for the peer that has to be told."""


async def measure(kind: str, dsn: str, table: str, folder: Path) -> Measured:
    match kind:
        case "adbc":
            extract = await with_adbc(dsn)
        case "connectorx":
            extract = await with_connectorx(dsn)
        case "asyncpg":
            extract = await with_asyncpg(dsn)
        case "pool":
            extract = await with_pool(dsn, folder)
        case _:
            raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    await extract(WARM_UP.format(table=table), folder / "warm-up.parquet")
    final = folder / f"{kind}.parquet"
    begun, cpu_begun = time.perf_counter(), time.process_time()
    await extract(WHOLE.format(table=table), final)
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
    peak_bytes = peak_resident_bytes()  # before the file is looked at
    return Measured(pq.ParquetFile(final).metadata.num_rows, wall_s, cpu_s, peak_bytes, final.stat().st_size)


def peak_resident_bytes() -> int:
    """VmHWM: unlike ru_maxrss it starts anew when the program is started, and does not hold what the parent had."""
    lines: list[Any] = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main(kind: str, dsn: str, table: str, folder: str) -> None:
    print(json.dumps(asdict(asyncio.run(measure(kind, dsn, table, Path(folder))))))


if __name__ == "__main__":
    main(sys.argv[1], os.environ["SANDPOOL_BENCH_DATABASE"], *sys.argv[2:])
