"""The composition root: builds the conductor's parts from the settings and starts and stops them in order.

`Conductor` is one scheduler with everything it stands on, in one event loop. It runs in a Ray actor
(cluster/conductor.py, `sandpool up`) or in any process (`cluster.embedded` bench: tests, embedded demo).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from cluster.admission import DatabaseLimits, TenantRules
from cluster.bench import Bench
from cluster.catalogs import Catalogs
from cluster.control import ControlRoom, Peers, nobody
from cluster.engine_catalogs import read_catalog
from cluster.errors import SettingsInvalid
from cluster.fairness import Share
from cluster.gauges import Gauges
from cluster.hosting import engine_rules, host_spec, most_at_once, sandbox_rules
from cluster.observing import Observer
from cluster.placement import PIPELINE
from cluster.replicas import ALONE, Replica
from cluster.run import Rules
from cluster.scheduler import Scheduler
from cluster.settings import DatabaseSettings, Settings
from cluster.sweeping import Sweeping
from queues.door import Door
from queues.topology import CONTROL_QUEUE, PRIORITIES, parked_name
from workers.errors import ConfigurationError
from workers.sandbox.hosting import HostSpec
from workers.sql.judge import Judge
from workers.sql.policy.document import Policy, load_policy
from workers.sql.spec import PoolSpec, SessionSpec
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

log = structlog.get_logger("sandpool.app")

SQL_QUEUES = ("sandpool.jobs.sql.interactive", "sandpool.jobs.sql.batch")
CODE_QUEUES = tuple(f"sandpool.jobs.{need}.{priority}" for need in ("cpu", "gpu") for priority in PRIORITIES)
CONTROL_PREFETCH = 32
FEWEST_PARKED, MOST_PARKED = 4, 512
"""Messages taken from all tenants' own queues at once: of each enough to keep the pools busy, of all what fits."""
DEFAULT_MAX_ROWS = 10_000_000
DEFAULT_MAX_BYTES = 4 * 1024**3
"""Ceilings of one result where the database's policy names none: a bound, not a promise of memory."""
PRIVILEGES = {
    "insert": ("INSERT",),
    "update": ("UPDATE",),
    "delete": ("DELETE",),
    "merge": ("DELETE", "INSERT", "UPDATE"),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The settings as the values that lower layers take."""

    rules: Rules
    policies: Mapping[str, Policy]
    pools: Mapping[str, PoolSpec]
    volumes: Mapping[str, VolumeSpec]
    host: HostSpec | None = None
    """What each node's host is told; None: no code runs here."""


def parts_of(settings: Settings, who: Replica = ALONE) -> Parts:
    """For this one of several schedulers. Raises SettingsInvalid when a policy cannot be used."""
    policies = policies_of(settings)
    volumes = {
        name: VolumeSpec(
            name=name,
            url=volume.url,
            options={key: secret.get_secret_value() for key, secret in volume.options.items()},
            retention_s=volume.retention_s,
            shared=volume.shared,
        )
        for name, volume in settings.volumes.items()
    }
    rules = Rules(
        tenants={
            name: TenantRules(
                frozenset(tenant.databases),
                tenant.volumes,
                tenant.max_timeout_s,
                tenant.max_attempts,
                images=None if tenant.images is None else frozenset(tenant.images),
                share=who.share_of(Share(tenant.weight, tenant.max_in_flight, tenant.rate_per_s)),
            )
            for name, tenant in settings.tenants.items()
        },
        databases={name: _limits(policies[name], database) for name, database in settings.databases.items()},
        volumes=volumes,
        max_deliveries=settings.scheduler.max_deliveries,
        cancelled_retention_s=settings.scheduler.cancelled_retention_s,
        sandboxes=sandbox_rules(settings),
        engines=engine_rules(settings, policies),
        grows=settings.ray.autoscale,
    )
    pools = {
        name: pool_spec(name, database, policies[name])
        for name, database in settings.databases.items()
        if name not in rules.engines
    }
    return Parts(rules, policies, pools, volumes, host_spec(settings))


def policies_of(settings: Settings) -> dict[str, Policy]:
    """That of each database. Raises SettingsInvalid when one cannot be used."""
    return {name: _policy(name, settings) for name in settings.databases}


def pool_spec(name: str, database: DatabaseSettings, policy: Policy) -> PoolSpec:
    """What the pool of this database is told; what the role may write is what the policy lists."""
    assert database.dsn is not None, "the settings were checked"
    limits = _limits(policy, database)
    return PoolSpec(
        database=name,
        dsn=database.dsn.get_secret_value(),
        budget=database.budget,
        bulk_budget=database.bulk_budget,
        writes=not database.read_only,
        write_tables={} if database.read_only else _write_privileges(policy),
        session_statement_s=limits.statement_timeout_s,
        session=SessionSpec(policy=policy.model_dump_json(by_alias=True), max_bytes=limits.max_bytes),
    )


def open_volumes(specs: Mapping[str, VolumeSpec]) -> dict[str, Volume]:
    """Every registered volume, by name. Raises ConfigurationError."""
    return {name: open_volume(spec) for name, spec in specs.items()}


class Conductor:
    """One scheduler and all it stands on."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        door: Door,
        bench: Bench,
        volumes: Mapping[str, Volume],
        observer: Observer | None = None,
        *,
        who: Replica = ALONE,
        peers: Peers = nobody,
    ) -> None:
        """`peers`: what the other schedulers say, where there are others."""
        self._who = who
        self._observer = observer or Observer()
        self._settings = settings
        self._parts = parts
        self._door = door
        self._bench = bench
        # One row more than the cap, by which the pool tells a capped result from a complete one.
        self._judge = Judge(cache_size=settings.scheduler.verdict_cache, headroom_rows=1)
        engines = parts.rules.engines
        self._catalogs = Catalogs(
            bench,
            self._judge,
            parts.policies,
            settings.scheduler.catalog_ttl_s,
            {name: engine.engine for name, engine in engines.items()},
            lambda name: read_catalog(bench, engines[name], parts.rules),
        )
        self.scheduler = Scheduler(parts.rules, door, bench, self._catalogs, volumes, self._observer)
        bench.watch(self.scheduler.cluster_changed)
        bench.wants(self.scheduler.wanted)
        self.control = ControlRoom(self.scheduler, door, volumes, peers)
        self._sweeping = Sweeping(volumes, settings.scheduler.sweep_interval_s)
        self._gauges = Gauges(
            self._observer.recorder,
            door,
            bench,
            self.scheduler.in_line,
            self.scheduler.under_way,
            settings.telemetry.interval_s,
            shared=who.number == 1,
        )

    async def start(self) -> None:
        """Nothing is taken before it can run. Raises QueueError when the broker is away, with nothing left running: two
        benches on the same pools would take each other's results."""
        await self._door.open()
        try:
            await self._judge.start()
            await self._bench.start()
            await self._catalogs.warm()
            await self._door.consume(CONTROL_QUEUE, CONTROL_PREFETCH, self.control.take)
            await self._take_from(SQL_QUEUES, self._slots(), shared=True)
            # Also where no sandbox can run: its job is answered with the reason instead of waiting for ever.
            await self._take_from(CODE_QUEUES, most_at_once(self._settings), shared=self._settings.sandboxes.enabled)
        except BaseException:
            await self._bench.close(0.0)
            await self._judge.close()
            await self._door.close()
            raise
        if self._who.number == 1:  # one is enough
            self._sweeping.start()
        self._gauges.start()
        log.info("up", databases=sorted(self._parts.pools), prefetch=self._prefetch(self._slots()))

    async def drain(self, timeout_s: float) -> None:
        """Take no more, finish or hand back what runs, then give everything up, in the reverse order of `start`."""
        await self._door.stop_consuming()
        await self._sweeping.stop()
        await self._gauges.stop()
        handed_back = await self.scheduler.drain(timeout_s)
        await self.control.drain(1.0)
        await self._bench.close(1.0)
        await self._door.close()
        await self._judge.close()
        await asyncio.to_thread(self._observer.tracing.close)
        log.info("drained", handed_back=handed_back)

    async def _take_from(self, queues: Sequence[str], slots: int, *, shared: bool) -> None:
        """From job queues, and where several tenants share the slots, from each one's own queue behind them."""
        tenants = sorted(self._parts.rules.tenants)
        for queue in queues:
            if shared and len(tenants) > 1:
                self.scheduler.share_out(queue, self._prefetch(slots))
                for tenant in tenants:
                    prefetch = max(FEWEST_PARKED, min(slots, MOST_PARKED // len(tenants)))
                    await self._door.consume(parked_name(tenant, queue), prefetch, self.scheduler.take)
            await self._door.consume(queue, self._prefetch(slots), self.scheduler.take)

    def _slots(self) -> int:
        return math.ceil(PIPELINE * sum(pool.budget for pool in self._parts.pools.values()) / self._who.count)

    def _prefetch(self, slots: int) -> int:
        """Every free slot of the cluster, and some to keep the pools busy while messages travel: what cannot run soon
        stays in the broker, where it is visible and safe."""
        return max(1, math.ceil(slots * self._settings.broker.prefetch_factor))


def _policy(name: str, settings: Settings) -> Policy:
    try:
        return load_policy(settings.policies[name])
    except ConfigurationError as error:
        raise SettingsInvalid(f"databases.{name}.policy: {settings.databases[name].policy}: {error}") from error


def _write_privileges(policy: Policy) -> dict[str, tuple[str, ...]]:
    """`schema.table` -> what a role needs for the kinds of write that the policy lists there."""
    schema = policy.schema_name or "public"
    return {
        entry.table if "." in entry.table else f"{schema}.{entry.table}": tuple(
            sorted({privilege for kind in entry.kinds for privilege in PRIVILEGES[kind]})
        )
        for entry in policy.writes or ()
    }


def _limits(policy: Policy, database: DatabaseSettings) -> DatabaseLimits:
    return DatabaseLimits(
        max_rows=policy.max_rows or DEFAULT_MAX_ROWS,
        max_bytes=policy.max_bytes or DEFAULT_MAX_BYTES,
        max_cost=policy.max_cost,
        statement_timeout_s=min(database.statement_timeout_s, policy.timeout_s or math.inf),
    )
