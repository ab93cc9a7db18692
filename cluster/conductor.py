"""The conductor as a detached, named, restartable Ray actor, and `sandpool up`, which starts and drains it.

The actor reads the configuration file itself, so that no secret travels as an actor argument, and starts working in its
constructor: when Ray restarts it after a crash, nobody has to ask it to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import structlog
from ray.exceptions import RayError, RayTaskError

from cluster.app import Conductor, Parts, open_volumes, parts_of
from cluster.conductor_states import POLL_S, wait_until_up, watch
from cluster.dispatch import NAMESPACE, RayBench
from cluster.dispatch_hosts import HOST_PREFIX
from cluster.dispatch_kept import ADDRESS_FILE
from cluster.dispatch_peers import Peers, encode_answer
from cluster.dispatch_pools import POOL_PREFIX
from cluster.errors import NotRunning, RayNotStarted, SettingsInvalid
from cluster.metrics import NoRecorder
from cluster.metrics_ray import RayRecorder
from cluster.node_token import secure_token
from cluster.observing import Observer
from cluster.replicas import ACTOR_NAME, ALONE, Replica, all_of
from cluster.scaling import Growth
from cluster.settings import RaySettings, Settings, Telemetry, load
from cluster.telemetry import configure_logs
from queues.amqp import AmqpDoor
from queues.errors import QueueError
from sandpool.wire import decode_control
from workers.errors import ConfigurationError, VolumeError
from workers.lifeline import EXIT_CODE, Lifeline

log = structlog.get_logger("sandpool.conductor")

START_RETRY_S = 2.0
CLOSE_TIMEOUT_S = 15.0
RESTART_GRACE_S = 30.0
CALL_TIMEOUT_S = 60.0


class ConductorActor:
    """The Ray shell around `cluster.app.Conductor`. All calls answer at once; the work goes on in its own task."""

    def __init__(self, config: str, who: Replica = ALONE) -> None:
        configure_logs()
        self._who = who
        self._life = secrets.token_hex(8)
        self._settings = load(Path(config))
        self._conductor: Conductor | None = None
        self._bench: RayBench | None = None
        self._moving: asyncio.Task[None] | None = None
        self._state = "starting"
        # A scheduler whose node is lost must not go on beside the one that Ray starts elsewhere.
        self._lifeline = Lifeline()
        self._main = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        """Bring everything up. What may come back is waited for, for nobody restarts an actor that merely does nothing;
        only a configuration that cannot be used ends it."""
        parts = parts_of(self._settings, self._who)
        while True:
            try:
                self._conductor = await self._start_once(parts)
            except (SettingsInvalid, ConfigurationError):
                raise
            except QueueError as error:
                self._state = f"waiting for the broker: {error}"
                log.warning("broker away", error=str(error))
            except VolumeError as error:
                self._state = f"waiting for a volume: {error}"
                log.warning("volume away", error=str(error))
            except Exception as error:
                self._state = f"does not start, tries again: {type(error).__name__}"
                log.exception("the scheduler does not start")
            else:
                self._state = "up"
                return
            await asyncio.sleep(START_RETRY_S)

    async def _start_once(self, parts: Parts) -> Conductor:
        volumes = await asyncio.to_thread(open_volumes, parts.volumes)  # it looks at folders, maybe on a file server
        door = AmqpDoor(self._settings.broker.url.get_secret_value())
        pinned = {name for name, database in self._settings.databases.items() if database.egress_only}
        grace_s = self._settings.scheduler.attempt_grace_s
        who, wanted = self._who, self._settings.ray
        growth = Growth(wanted.rest_after_s, who.count, speaks=who.number == 1) if wanted.autoscale else None
        bench = RayBench(parts.pools, parts.volumes, parts.host, pinned=pinned, growth=growth, who=who, grace_s=grace_s)
        observer = observer_of(self._settings.telemetry)
        peers = Peers(who.others, NAMESPACE)
        conductor = Conductor(self._settings, parts, door, bench, volumes, observer, who=who, peers=peers)
        try:
            await conductor.start()
        except BaseException:
            await door.close()
            raise
        self._moving = asyncio.get_running_loop().create_task(self._move_on(bench), name="own node")
        self._bench = bench
        return conductor

    async def _move_on(self, bench: RayBench) -> None:
        """Leave a node that drains: Ray starts the scheduler on another one."""
        await bench.own_node_drains.wait()
        log.info("the node of the scheduler drains")
        await self.restart()

    async def restart(self) -> None:
        """Drain, and end this process: Ray starts another one, with the configuration and the code of that moment."""
        timeout_s = self._settings.scheduler.drain_timeout_s
        try:
            if self._conductor is not None:
                async with asyncio.timeout(timeout_s + RESTART_GRACE_S):
                    await self._conductor.drain(timeout_s)
        except Exception:
            log.exception("not drained in order")
        finally:
            os._exit(EXIT_CODE)  # whatever became of the drain: one that takes nothing more must not stay

    async def life(self) -> str:
        """Another one after a restart."""
        return self._life

    async def set_aside(self, node: str, longest_s: float) -> None:
        """See RayBench, as the three that follow; one that is not up has no work anywhere."""
        if self._bench is not None:
            self._bench.set_aside(node, longest_s)

    async def is_busy(self, node: str) -> bool:
        return self._bench is not None and self._bench.is_busy(node)

    async def take_back(self, node: str) -> None:
        if self._bench is not None:
            await self._bench.take_back(node)

    async def is_back(self, node: str) -> bool:
        return self._bench is None or self._bench.is_back(node)

    async def answer(self, tenant: str, call: bytes) -> bytes:
        """What this scheduler knows of a job that another one was asked about; empty: nothing."""
        if self._conductor is None:
            return b""
        return encode_answer(await self._conductor.control.here(tenant, decode_control(call)))

    async def state(self) -> str:
        """`starting`, `waiting for the broker: ...`, `up`, `drained`; raises what `_start` raised."""
        if self._main.done() and not self._main.cancelled():
            self._main.result()
        return self._state

    async def drain(self, timeout_s: float) -> None:
        """Finish or hand back what runs; the actor may be killed afterwards."""
        self._main.cancel()
        if self._moving is not None:
            self._moving.cancel()
        if self._conductor is not None:
            await self._conductor.drain(timeout_s)
        self._state = "drained"


def observer_of(settings: Telemetry) -> Observer:
    """Raises SettingsInvalid where traces are asked for and the library for them is missing."""
    recorder = RayRecorder() if settings.metrics else NoRecorder()
    if not settings.otlp_endpoint:
        return Observer(recorder)
    try:
        from cluster.tracing_otel import otlp_tracing  # noqa: PLC0415 - an extra, and 200 ms, for whoever wants traces
    except ImportError as error:
        raise SettingsInvalid("telemetry.otlp_endpoint: install sandpool-cluster[tracing] first") from error
    headers = {name: value.get_secret_value() for name, value in settings.otlp_headers.items()}
    return Observer(recorder, otlp_tracing(settings.otlp_endpoint, headers=headers, sample=settings.trace_sample))


def start_ray(settings: RaySettings, folder: Path) -> tuple[bool, str]:
    """Join the Ray cluster at `address`, or start one here. Returns whether it is ours to stop, and the address of its
    dashboard, where it has one. Raises RayNotStarted."""
    # It warns at every start that its authentication is on, which is what we want.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if ray.is_initialized():
        return False, ""
    secure_token()
    if settings.address != "local":
        joined = ray.init(address=settings.address, namespace=NAMESPACE, log_to_driver=False)
        return False, str(joined.dashboard_url or "")
    temp = Path(settings.folder) if settings.folder else folder / "ray"
    options: dict[str, Any] = {"num_cpus": settings.cpus} if settings.cpus else {}
    try:
        started = ray.init(
            address="local",
            namespace=NAMESPACE,
            include_dashboard=settings.dashboard,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(temp),
            # Ray gives its workers the niceness 15, below everything else: on a busy machine the scheduler and the
            # pools would hardly run while broker and database do.
            _system_config={"worker_niceness": 0},
            **options,
        )
    except Exception as error:  # Ray raises no narrower one where its processes are late, or ended
        raise RayNotStarted(f"Ray did not start: {error}") from error
    # For `dispatch_kept.join`; for a cluster of `ray start` Ray writes this file itself.
    (temp / ADDRESS_FILE).write_text(ray.get_runtime_context().gcs_address)
    return True, str(started.dashboard_url or "")


def start_conductors(config: Path, count: int) -> list[Any]:
    """The actors of so many schedulers: those that run, or new ones; on different nodes where there are several."""
    return [
        ray.remote(ConductorActor)
        .options(
            name=who.name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100,
            scheduling_strategy="DEFAULT" if count == 1 else "SPREAD",
        )
        .remote(str(config.resolve()), who)
        for who in all_of(count)
    ]


def restart_all(count: int, timeout_s: float, on_state: Callable[[str], None]) -> None:
    """Restart one scheduler after the other, each once the one before is up again. Raises NotRunning."""
    for who in all_of(count):
        try:
            actor: Any = ray.get_actor(who.name, namespace=NAMESPACE)
            before = str(ray.get(actor.life.remote(), timeout=CALL_TIMEOUT_S))
        except (ValueError, RayError) as error:
            raise NotRunning(f"{who.name} does not run: {type(error).__name__}") from error
        actor.restart.remote()
        deadline = time.monotonic() + timeout_s
        while not _has_restarted(actor, before):
            if time.monotonic() > deadline:
                raise NotRunning(f"{who.name} is not up {timeout_s:.0f} s after its restart began")
            time.sleep(POLL_S)
        on_state(f"{who.name} restarted")


def _has_restarted(actor: Any, before: str) -> bool:
    try:
        life, state = ray.get([actor.life.remote(), actor.state.remote()], timeout=CALL_TIMEOUT_S)
    except RayTaskError as error:
        raise NotRunning(f"a scheduler does not start again: {error.cause}") from error
    except RayError:
        return False  # between two lives
    return bool(life != before and state == "up")


def up(settings: Settings, config: Path, *, on_ready: Callable[[], None], on_state: Callable[[str], None]) -> int:
    """`sandpool up`: run until SIGINT or SIGTERM, then drain. A second signal stops at once. Returns the exit code.

    `on_state` hears every change of state until `on_ready`. Raises SettingsInvalid, NotRunning.
    """
    stop = threading.Event()
    signals = 0

    def ask_to_stop(*_: object) -> None:
        nonlocal signals
        signals += 1
        stop.set()

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask_to_stop)

    listen()
    ours, dashboard = start_ray(settings.ray, Path(settings.folder))
    listen()  # again: Ray has put a handler of its own in place, which ends everything at once and drains nothing
    try:
        if dashboard:
            on_state(f"Ray dashboard at http://{dashboard}")
        actors = start_conductors(config, settings.scheduler.replicas)
        for actor in actors:
            wait_until_up(actor, stop, on_state)
        if not stop.is_set():
            on_ready()
        watch(actors, stop, on_state)
        drains = [actor.drain.remote(settings.scheduler.drain_timeout_s) for actor in actors]
        deadline = time.monotonic() + settings.scheduler.drain_timeout_s + 30
        while signals < 2 and time.monotonic() < deadline and drains:
            drains = ray.wait(drains, num_returns=len(drains), timeout=POLL_S)[1]
        if signals < 2:
            _close_workers()
        _end_actors()
    except BaseException:
        # What does not start must not be found by the next `up`, as the actor that runs.
        with contextlib.suppress(RayError):
            _end_actors()
        raise
    finally:
        if ours:
            ray.shutdown()
    return 0


def _close_workers() -> None:
    """Let pools disconnect and hosts end their sandboxes, for a while: the rest ends with their processes."""
    names = [name for name in _actor_names() if name.startswith((POOL_PREFIX, HOST_PREFIX))]
    with contextlib.suppress(ValueError, RayError):
        closing: list[Any] = [ray.get_actor(name, namespace=NAMESPACE).close.remote() for name in names]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)


def _end_actors() -> None:
    """The schedulers, pools and hosts: detached actors outlive whoever made them."""
    for name in _actor_names():
        if name.startswith((ACTOR_NAME, POOL_PREFIX, HOST_PREFIX)):
            with contextlib.suppress(ValueError, RayError):
                ray.kill(ray.get_actor(name, namespace=NAMESPACE))


def _actor_names() -> list[str]:
    """Of every actor of ours."""
    entries = ray.util.list_named_actors(all_namespaces=True)
    return [entry["name"] for entry in entries if entry["namespace"] == NAMESPACE]
