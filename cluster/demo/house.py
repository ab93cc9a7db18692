"""Where the demo plays: a private installation with `sandpool up` running on it, or the same house embedded.

`open_house` is a context manager that leaves nothing running. Called by `python -m cluster.demo`, end-to-end tests and
benchmarks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from cluster.app import Conductor, open_volumes, parts_of
from cluster.demo.ray_nodes import RayNodes, ray_nodes
from cluster.demo.sandbox_acts import IMAGE
from cluster.embedded import EmbeddedBench
from cluster.local.errors import ServiceMissing
from cluster.local.household import IMAGES, furnish
from cluster.local.process import OwnedProcess
from cluster.local.rabbitmq import find_rabbitmq
from cluster.local.stage import Stage
from cluster.settings import Settings, load
from cluster.telemetry import configure_logs
from queues.memory.broker import MemoryBroker
from queues.memory.door import MemoryDoor
from queues.memory.transport import MemoryTransport
from sandpool import Client
from sandpool.errors import SandpoolError
from workers.errors import WorkerError
from workers.images.build import build
from workers.images.recipe import load as load_recipe
from workers.images.store import ImageStore
from workers.sandbox.readiness import why_not

UP_TIMEOUT_S = 120.0
RECIPES = Path(__file__).resolve().parents[2] / "images"
ASK_TIMEOUT_S = 3.0
STOP_GRACE_S = 60.0
DRAIN_TIMEOUT_S = 10.0
LOG = "sandpool.log"
"""In the house's folder: what the cluster wrote."""
Say = Callable[[str], None]


class House:
    """A running cluster: a client for each tenant, and the folder in which results appear."""

    def __init__(
        self,
        stage: Stage,
        client: Callable[[str], Client],
        pid: int | None = None,
        *,
        why_no_sandboxes: str = "",
        raylets: tuple[int, ...] = (),
    ) -> None:
        self.raylets = raylets
        """A process for each Ray node, the head first, where there are several."""
        self.stage = stage
        self.why_no_sandboxes = why_no_sandboxes
        self.volume = stage.volume
        self.client = client
        self.pid = pid
        """Of `sandpool up`; None when embedded."""


def prepare_image(say: Say) -> str:
    """Have the image of the acts in sandboxes; why there can be none, or empty."""
    if reason := why_not():
        return reason
    store, recipe = ImageStore(IMAGES), load_recipe(RECIPES / IMAGE)
    if store.current(IMAGE) is None:
        say(f"Building the sandbox image {IMAGE!r}, once; it takes under a minute")
    try:
        build(store, recipe, environment=os.environ, say=lambda _: None)
    except WorkerError as error:
        return f"no sandboxes: image {IMAGE!r} cannot be built: {error.message}"
    return ""


@contextmanager
def open_house(folder: Path, say: Say, nodes: int = 1) -> Iterator[House]:
    """A cluster in `folder` that is up; stopped and gone when the block ends, results kept. `nodes`: Ray nodes, all on
    this machine. Raises ServiceMissing for several of them where no broker is installed."""
    why_no_sandboxes = prepare_image(say)
    started = time.perf_counter()
    try:
        find_rabbitmq()
    except ServiceMissing as missing:
        if nodes > 1:
            raise
        say(f"{missing}\nRunning embedded: the in-memory broker and all workers in this process.")
        say("Starting a private PostgreSQL, loading 336,776 real flights")
        with Stage(folder, broker=False) as stage, _embedded(stage, why_no_sandboxes) as house:
            say(f"Up after {time.perf_counter() - started:.0f} s")
            yield house
        return
    say("Starting a private RabbitMQ and PostgreSQL, loading 336,776 real flights")
    with Stage(folder) as stage:
        if nodes > 1:
            say(f"Starting {nodes} Ray nodes on this machine")
        with ray_nodes(stage, nodes) as ray, _cluster(stage, say, why_no_sandboxes, ray) as house:
            say(f"Up after {time.perf_counter() - started:.0f} s")
            yield house


@contextmanager
def _cluster(stage: Stage, say: Say, why_no_sandboxes: str, ray: RayNodes) -> Iterator[House]:
    # Not below the stage's folder: Ray's logs are of no use once it is down, and are many.
    ray_folder = stage.short_folder()
    config = furnish(stage, ray_folder=str(ray_folder), ray_address=ray.address)
    log = stage.folder / LOG
    process = OwnedProcess(
        "sandpool up",
        [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)],
        folder=stage.folder,
        log=log,
        env={**os.environ, **({"RAY_AUTH_MODE": "token"} if ray.raylets else {})},
        stop_signal=signal.SIGINT,
        grace_s=STOP_GRACE_S,
        remove_if_orphaned=ray_folder,
    )
    where = f"these {len(ray.raylets)} nodes" if ray.raylets else "a local Ray"
    say(f"Starting the cluster: `sandpool up` on {where}, with this configuration:")
    say(f"  {config}")
    with process:
        process.wait_until(lambda: _is_up(log), UP_TIMEOUT_S)
        process.wait_until(lambda: _answers(stage.urls["acme"]), UP_TIMEOUT_S)
        clients = lambda tenant: Client(stage.urls[tenant])  # noqa: E731
        yield House(stage, clients, process.pid, why_no_sandboxes=why_no_sandboxes, raylets=ray.raylets)


def _is_up(log: Path) -> bool:
    """Whether `sandpool up --json` has said so. Cheaper than a client each time, and quiet when interrupted."""
    return b'{"state":"up",' in log.read_bytes()


def _answers(url: str) -> bool:
    """Whether a scheduler answers on this broker."""
    try:
        with Client(url) as client:
            return client.status("is-anybody-there", timeout=ASK_TIMEOUT_S).state == "unknown"
    except SandpoolError:
        return False


@contextmanager
def _embedded(stage: Stage, why_no_sandboxes: str) -> Iterator[House]:
    broker = MemoryBroker()
    for tenant in stage.tenants:
        broker.add_tenant(tenant)
    settings = load(furnish(stage))
    log = (stage.folder / LOG).open("a", buffering=1)
    with redirect_stderr(log):
        configure_logs()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandpool-conductor")
    thread.start()
    try:
        conductor = asyncio.run_coroutine_threadsafe(_start(settings, broker), loop).result(UP_TIMEOUT_S)
        try:
            clients = lambda tenant: Client(MemoryTransport(broker, tenant))  # noqa: E731
            yield House(stage, clients, why_no_sandboxes=why_no_sandboxes)
        finally:
            drained = asyncio.run_coroutine_threadsafe(conductor.drain(DRAIN_TIMEOUT_S), loop)
            drained.result(DRAIN_TIMEOUT_S + STOP_GRACE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_GRACE_S)


async def _start(settings: Settings, broker: MemoryBroker) -> Conductor:
    parts = parts_of(settings)
    volumes = open_volumes(parts.volumes)
    conductor = Conductor(settings, parts, MemoryDoor(broker), EmbeddedBench(parts.pools, volumes, parts.host), volumes)
    await conductor.start()
    return conductor
