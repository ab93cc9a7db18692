"""A whole embedded cluster with one host and real sandboxes, for tests that follow a job from its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cluster.app import Conductor, parts_of
from cluster.embedded import EmbeddedBench
from cluster.settings import Settings
from queues.memory.broker import MemoryBroker
from queues.memory.door import MemoryDoor
from queues.memory.transport import MemoryTransport
from sandpool import AsyncClient
from workers.volumes.store import Volume

CONFIG = """
folder = "{folder}/state"
[broker]
url = "memory://"
[volumes.results]
url = "file://{folder}/volume"
[sandboxes]
folder = "{folder}/h"
images = "{images}"
memory_bytes = 4294967296
[databases.sets]
engine = "duckdb"
source = "results:acme/sets/"
policy = "policy.toml"
[tenants.acme]
databases = ["sets"]
"""
"""Ends within the tenant's table, for tests that have more to say of it."""


@asynccontextmanager
async def embedded_client(settings: Settings, volumes: Mapping[str, Volume]) -> AsyncIterator[AsyncClient]:
    """A client of the tenant `acme`, for as long as the cluster is up."""
    parts, broker = parts_of(settings), MemoryBroker()
    broker.add_tenant("acme")
    bench = EmbeddedBench(parts.pools, volumes, parts.host)
    conductor = Conductor(settings, parts, MemoryDoor(broker), bench, volumes)
    await conductor.start()
    try:
        async with AsyncClient(MemoryTransport(broker, "acme")) as client:
            yield client
    finally:
        await conductor.drain(5)
