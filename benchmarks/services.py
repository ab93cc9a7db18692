"""The real servers under every benchmark: a private RabbitMQ node and a private PostgreSQL server with the flights
data.

Opened once per run of `python -m benchmarks`; every peer uses the same two, one after the other. PostgreSQL runs with
its default durability; the role is the one a production database would give Sandpool, and the peers use it as well.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.usage import children, cpu_s, own_cpu_s, tree
from cluster.local.flights import load_flights
from cluster.local.postgres import PostgresServer, start_postgres
from cluster.local.rabbitmq import RabbitNode, start_rabbitmq

DATABASE = "flights"
READER = "bench_reader"
GRANTS = """
GRANT CONNECT ON DATABASE {database} TO {reader};
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader};
"""


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """CPU seconds of one run, by who spent them."""

    submitter: float
    workers: float
    broker: float
    database: float

    @property
    def total(self) -> float:
        return self.submitter + self.workers + self.broker + self.database

    def __sub__(self, other: CpuSeconds) -> CpuSeconds:
        return CpuSeconds(
            self.submitter - other.submitter,
            self.workers - other.workers,
            self.broker - other.broker,
            self.database - other.database,
        )


@dataclass(frozen=True, slots=True)
class Services:
    """The two servers, running."""

    folder: Path
    rabbitmq: RabbitNode
    postgres: PostgresServer
    dsn: str
    """Of the reader, on the flights database."""
    broker_pids: frozenset[int]
    database_pids: frozenset[int]

    def cpu(self) -> CpuSeconds:
        """CPU seconds so far. Whatever else descends from this process are the workers of the peer that runs."""
        others = children(os.getpid()) - self.broker_pids - self.database_pids
        return CpuSeconds(
            submitter=own_cpu_s(),
            workers=cpu_s(tree(others)),
            broker=cpu_s(tree(self.broker_pids)),
            database=cpu_s(tree(self.database_pids)),
        )

    def describe(self) -> str:
        version = self.postgres.execute("SHOW server_version;").split()[0]
        answer = self.rabbitmq.evaluate("rabbit_misc:version().")
        found = re.search(r"\d+\.\d+\.\d+", answer)
        return f"PostgreSQL {version}, RabbitMQ {found.group() if found else answer}"


@contextmanager
def open_services(folder: Path) -> Iterator[Services]:
    """Start both servers in `folder`, load the data, and end them with the block. Raises
    cluster.local.LocalServiceError.
    """
    before = children(os.getpid())
    rabbitmq = start_rabbitmq(folder / "rabbitmq")
    try:
        broker_pids = children(os.getpid()) - before
        postgres = start_postgres(folder / "postgres")
        try:
            database_pids = children(os.getpid()) - before - broker_pids
            load_flights(postgres.create_database(DATABASE))
            password = secrets.token_urlsafe(18)
            postgres.create_role(READER, password)
            postgres.execute(GRANTS.format(database=DATABASE, reader=READER), DATABASE)
            dsn = postgres.dsn(DATABASE, READER, password)
            yield Services(folder, rabbitmq, postgres, dsn, frozenset(broker_pids), frozenset(database_pids))
        finally:
            postgres.remove()
    finally:
        rabbitmq.remove()
