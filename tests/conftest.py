"""Real servers and guards for every test. Read by pytest; imported by nobody.

A server that cannot be started fails the tests which need it, here and in CI: it never skips them. Under pytest-xdist
each worker process has servers of its own, so that a test may restart or kill them.
"""

from __future__ import annotations

import gc
import inspect
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from cluster.local.flights import load_flights
from cluster.local.postgres import PostgresServer, start_postgres
from cluster.local.rabbitmq import RabbitNode, start_rabbitmq
from tests.support.s3 import S3Server, start_s3
from workers.volumes.spec import VolumeSpec

# A shell that starts a run in the background has it ignore SIGINT, which every child inherits: then no test of Ctrl-C
# could pass, nor would `sandpool up` hear the signal by which tests stop it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines: on a busy machine they fail tests that are right. `make check` looks at fewer examples than `make test`.
settings.register_profile("default", deadline=None)
settings.register_profile("check", deadline=None, max_examples=15)
settings.load_profile("default")

# Collected tests are many objects that live to the end: looking through them again and again took a sixth of the time.
gc.set_threshold(100_000, 50, 50)

OUR_PACKAGES = ("cluster", "workers", "queues", "sandpool")


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A private RabbitMQ node, running. A test that stops it starts it again before it ends."""
    node = start_rabbitmq(tmp_path_factory.mktemp("rabbitmq") / "node", temporary=True)
    yield node
    node.remove()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A private PostgreSQL server, running. A test that stops it starts it again before it ends."""
    server = start_postgres(tmp_path_factory.mktemp("postgres") / "server", durable=False, temporary=True)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def flights_dsn(postgres: PostgresServer) -> str:
    """DSN (superuser) of a database with the real flights data. Shared: change nothing in it."""
    dsn = postgres.create_database("flights")
    load_flights(dsn)
    return dsn


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A private S3 server that checks create-only puts."""
    server = start_s3(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def tmp_volume(tmp_path: Path) -> VolumeSpec:
    """The description of an empty file volume."""
    root = tmp_path / "volume"
    root.mkdir()
    return VolumeSpec(name="results", url=root.as_uri())


@pytest.fixture(scope="session")
def _blocking_guard() -> BlockBuster:
    """`cluster.local` blocks by design and tests may call it; our other code may not call even that on a loop."""
    guard = BlockBuster(OUR_PACKAGES, excluded_modules=["cluster.local"])
    for name, function in guard.functions.items():
        if name.startswith("os."):
            # A file volume's small creates and reads run on the loop on purpose: a thread hop costs as much as they do.
            function.can_block_in("workers/volumes/local.py", {"acreate", "aget"})
            # So is the start of a child: it belongs to the thread that starts it.
            function.can_block_in("workers/child.py", {"start_child"})
    return guard


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked(request: pytest.FixtureRequest, _blocking_guard: BlockBuster) -> Iterator[None]:
    """A blocking call made by our own code on the event loop of an async test raises BlockingError.

    A test which must block on purpose says so: `@pytest.mark.may_block("why")`.
    """
    function = getattr(request.node, "function", None)
    if not inspect.iscoroutinefunction(function) or request.node.get_closest_marker("may_block"):
        yield
        return
    _blocking_guard.activate()
    yield
    _blocking_guard.deactivate()
