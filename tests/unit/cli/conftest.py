"""A whole cluster for the command line, without a server: the real scheduler and control room on the in-memory broker,
in a thread of their own, with a bench that runs statements on DuckDB and writes real results into a file volume.

A comment in the statement scripts what the bench cannot do by itself: `-- hold` waits until the job is cancelled,
`-- ends X` ends so. Statements that say `forbidden` are denied.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import click.testing
import duckdb
import msgspec
import pyarrow as pa
import pytest

from cluster.admission import DatabaseLimits, TenantRules
from cluster.cli.invocation import Invocation
from cluster.cli.root import root
from cluster.control import ControlRoom
from cluster.placement import HostView, Node, PoolView
from cluster.run import Rules
from cluster.scheduler import Scheduler
from cluster.telemetry import configure_logs
from queues.memory import MemoryBroker, MemoryDeadLetters, MemoryDoor, MemoryTransport
from queues.topology import CONTROL_QUEUE
from sandpool import AsyncClient, SqlJob
from sandpool.outcome import INLINE_LIMIT_BYTES, Column, Ending, ErrorInfo, File, Manifest, Usage, Verdict
from workers.attempt import Attempt, Statement
from workers.sandbox.tail import Heard, Tail
from workers.sandbox.task import SandboxTask
from workers.volumes.keys import output_key
from workers.volumes.result import ResultWriter
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

SQL_QUEUES = ("sandpool.jobs.sql.interactive", "sandpool.jobs.sql.batch")
CODE_QUEUES = tuple(f"sandpool.jobs.cpu.{priority}" for priority in ("interactive", "batch"))
SCRIPTED = re.compile(r"-- ends (\w+)")


class DuckBench:
    """Runs statements for real, on DuckDB."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self.ran: list[str] = []
        self.tasks: list[SandboxTask] = []
        self.holding = threading.Event()
        self._stops: dict[str, asyncio.Event] = {}
        self._tails: dict[str, Tail] = {}
        self._heard = asyncio.Event()

    def nodes(self) -> list[Node]:
        host = HostView(cpus=64, memory_bytes=64 << 30, images=frozenset({"data", "base"}))
        return [Node("n", {"flights": PoolView(64, len(self._stops))}, host)]

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        """What the code says, as JSON fields of the attempt: `{"ending": "Failed", "said": {"stdout": "x"}}`."""
        self.tasks.append(task)
        fields = {"ending": "Succeeded", **msgspec.json.decode(task.code)}
        tail = self._tails[task.job_id] = Tail()
        for piece in fields.pop("live", ()):  # told while it runs; the next one only when this was heard
            await tail.take("stdout", piece.encode())
            self._heard = asyncio.Event()
            await self._heard.wait()
        files = fields.pop("files", {})
        kept = []
        for path, text in files.items():
            key = output_key(task.tenant, task.job_id, task.attempt_id, "out", path)
            self._volume.create(key, text.encode())
            kept.append(File(path, key, len(text.encode()), hashlib.sha256(text.encode()).hexdigest()))
        ids = {"job_id": task.job_id, "attempt_id": task.attempt_id}
        attempt = msgspec.convert({"said": {}, **ids, **fields}, Attempt)
        return msgspec.structs.replace(attempt, manifest=Manifest(files=tuple(kept)))

    async def hear_task(self, node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        heard = await self._tails[job_id].read(stdout_from, stderr_from)
        if heard.stdout:
            self._heard.set()
        return heard

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        self.ran.append(statement.job_id)
        stop = self._stops[statement.job_id] = asyncio.Event()
        try:
            if "-- hold" in statement.sql:
                self.holding.set()
                await stop.wait()
                return self._attempt(statement, Ending.Cancelled, ErrorInfo("job.cancelled", "stopped"))
            if scripted := SCRIPTED.search(statement.sql):
                error = ErrorInfo("statement.scripted", "so it was written", "write something else", "42P01")
                table = duckdb.sql("select 1 as a") if scripted[1] == "OutputCapped" else None
                return self._attempt(statement, Ending(scripted[1]), error, table)
            if statement.writes:
                return self._attempt(statement, Ending.Succeeded, changed=3)
            return self._attempt(
                statement, Ending.Succeeded, table=duckdb.sql(statement.sql, params=list(statement.params))
            )
        finally:
            del self._stops[statement.job_id]

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        self._stops[job_id].set()

    def _attempt(
        self,
        statement: Statement,
        ending: Ending,
        error: ErrorInfo | None = None,
        table: Any = None,
        changed: int | None = None,
    ) -> Attempt:
        manifest, inline = Manifest(rows_affected=changed), b""
        if table is not None:
            rows = table.to_arrow_table()
            columns = tuple(Column(f.name, str(f.type), str(f.type)) for f in rows.schema)
            name = (statement.tenant, statement.job_id, statement.attempt_id)
            with ResultWriter(
                self._volume, *name, rows.schema, columns, part_bytes=200_000, row_group_bytes=100_000
            ) as out:
                for batch in rows.to_batches():
                    out.write(batch)
                manifest = out.finish(partial=ending is Ending.OutputCapped)
            inline = _ipc(rows)
        return Attempt(
            job_id=statement.job_id,
            attempt_id=statement.attempt_id,
            ending=ending,
            error=error,
            usage=Usage(run_s=0.0123, rows=manifest.rows),
            manifest=manifest,
            inline=inline if len(inline) <= INLINE_LIMIT_BYTES else b"",
        )


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class Verdicts:
    """Stands for the policy, which has its own tests."""

    async def judge(self, job: SqlJob, tenant: str) -> Verdict:
        if "forbidden" in job.sql:
            return Verdict(False, "table.unlisted", "table forbidden is not listed; tables here: flights")
        return Verdict(True, sql=job.sql, statement="update" if job.writes else "select")


class House:
    """The cluster; `call` runs one command line against it as the tenant acme."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = VolumeSpec(name="results", url=(folder / "volume").as_uri())
        self.volume = open_volume(self.spec)
        self.broker = MemoryBroker()
        self.broker.add_tenant("acme")
        self.bench = DuckBench(self.volume)
        tenant = TenantRules(frozenset({"flights"}), ("results",), 60, 3)
        rules = Rules(
            tenants={"acme": tenant},
            databases={"flights": DatabaseLimits(10**6, 10**9, None, 60)},
            volumes={"results": self.spec},
            max_deliveries=3,
            cancelled_retention_s=60,
        )
        self._door = MemoryDoor(self.broker)
        self.scheduler = Scheduler(rules, self._door, self.bench, Verdicts(), {"results": self.volume})  # type: ignore[arg-type]
        self._control = ControlRoom(self.scheduler, self._door, {"results": self.volume})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.environment = {"SANDPOOL_URL": "amqp://acme:topsecret@broker/sandpool"}

    def open(self) -> None:
        self._thread.start()
        self._wait(self._open())

    def close(self) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, *args: str, stdin: str | bytes | None = None) -> click.testing.Result:
        invocation = Invocation(
            environment=self.environment,
            connect=lambda _url: AsyncClient(MemoryTransport(self.broker, "acme")),
            open_dead=lambda _url: MemoryDeadLetters(self.broker),
        )
        return click.testing.CliRunner().invoke(root, list(args), obj=invocation, input=stdin)

    def configure(self) -> None:
        """Give the command line a configuration file too, which registers the volume."""
        path = self.folder / "sandpool.toml"
        (self.folder / "policy.toml").write_text('tables = "all"\n')
        path.write_text(f"""
            [broker]
            url = "amqp://sandpool:secret@broker/sandpool"
            [volumes.results]
            url = "{self.spec.url}"
            [databases.flights]
            dsn = "postgresql://reader:topsecret@db/flights"
            policy = "policy.toml"
            [tenants.acme]
            databases = ["flights"]
        """)
        self.environment["SANDPOOL_CONFIG"] = str(path)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Return when it holds; AssertionError otherwise."""
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline_s, "it did not happen in time"
            time.sleep(0.005)

    async def _open(self) -> None:
        await self._door.open()
        await self._door.consume(CONTROL_QUEUE, 8, self._control.take)
        for queue in (*SQL_QUEUES, *CODE_QUEUES):
            await self._door.consume(queue, 64, self.scheduler.take)

    async def _close(self) -> None:
        await self._door.stop_consuming()
        await self.scheduler.drain(1.0)
        await self._door.close()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    configure_logs()
    made = House(tmp_path)
    made.open()
    yield made
    made.close()


@pytest.fixture
def run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., click.testing.Result]:
    """Runs a command line where there is neither cluster nor configuration."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str, **environment: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(root, list(args), obj=Invocation(environment=environment))

    return call
