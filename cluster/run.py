"""One job under way: how a message becomes one, or why it cannot. Decides only; the scheduler acts.

An unacceptable message has no ending, for it is no job: it goes to the dead letters with its reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.admission import Admitted, DatabaseLimits, TenantRules
from cluster.placement import Need, Placed
from cluster.sandbox_admission import SandboxRules
from cluster.tasks import EngineRules, attempt_id
from cluster.tracing import NO_SPAN, Span
from queues.door import Delivery
from sandpool import wire
from sandpool.errors import InvalidEnvelope
from sandpool.job import Job, SqlJob, digest
from sandpool.outcome import Outcome, Verdict
from workers.attempt import Statement
from workers.volumes.spec import VolumeSpec


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything the scheduler knows of the configuration."""

    tenants: Mapping[str, TenantRules]
    databases: Mapping[str, DatabaseLimits]
    volumes: Mapping[str, VolumeSpec]
    max_deliveries: int
    cancelled_retention_s: int
    sandboxes: SandboxRules = field(default_factory=SandboxRules)
    engines: Mapping[str, EngineRules] = field(default_factory=dict)
    """Databases whose engine runs inside a sandbox."""
    grows: bool = False
    """The cluster may get nodes that it does not have yet: what none of today's can run waits a while for one."""

    @property
    def shared(self) -> frozenset[str]:
        """Volumes of which every tenant may read everything."""
        return frozenset(name for name, spec in self.volumes.items() if spec.shared)

    @property
    def sealed(self) -> dict[str, str]:
        """Databases that code may not have as files, and what their policies keep back."""
        return {name: engine.keeps_back for name, engine in self.engines.items() if engine.keeps_back}

    def home_of(self, tenant: str, volume: str) -> VolumeSpec:
        """Where an ending is recorded: in this volume, or in the tenant's first one where it has no right to this."""
        allowed = self.tenants[tenant].volumes
        return self.volumes[volume if volume in allowed else allowed[0]]


class Unacceptable(Exception):
    """A message that cannot become a job. `reason` goes into the dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True, eq=False)
class Run:
    """One job under way here, from its message to its settlement."""

    job: Job
    tenant: str
    number: int
    """Of this attempt, from 1. Waiting for a slot or for the volume is not an attempt."""
    delivery: Delivery
    home: VolumeSpec
    digest: str
    """Of the work (`sandpool.job.digest`)."""
    ended: asyncio.Future[Outcome | None]
    """The recorded outcome, or None when the job went back to the broker for another attempt."""
    task: asyncio.Task[None] | None = None
    verdict: Verdict | None = None
    placed: Placed | None = None
    need: Need | None = None
    """Of the stage that waits or runs now."""
    waiting: bool = False
    """In line for a slot: the one moment at which its task may be cancelled for its own sake."""
    cancel_asked: bool = False
    reason: str = ""
    """Why it goes back to the broker, in a sentence."""
    since_s: float = field(default_factory=time.monotonic)
    """When it began to wait or to run."""
    span: Span = NO_SPAN
    """Of the trace that the caller began, or of one of its own."""

    @property
    def sql(self) -> SqlJob:
        """The job, where it is a statement."""
        assert isinstance(self.job, SqlJob)
        return self.job

    def statement(self, admitted: Admitted) -> Statement:
        """What the pool gets: the verdict's text with every limit resolved."""
        verdict = self.verdict
        assert verdict is not None, "a statement runs only by its verdict"
        return Statement(
            tenant=self.tenant,
            job_id=self.job.id,
            attempt_id=attempt_id(self.number),
            digest=self.digest,
            sql=verdict.sql,
            params=self.sql.params,
            writes=verdict.statement != "select",
            timeout_s=admitted.timeout_s,
            max_rows=admitted.max_rows,
            max_bytes=admitted.max_bytes,
            max_cost=admitted.max_cost,
            volume=self.job.volume,
        )


def open_delivery(delivery: Delivery, rules: Rules) -> Run:
    """The job in a message. Raises Unacceptable."""
    if delivery.tenant is None:
        raise Unacceptable("publisher.unverified")
    if delivery.tenant not in rules.tenants:
        raise Unacceptable("tenant.unknown")
    try:
        job = wire.decode_job(delivery.body)
    except InvalidEnvelope as error:
        raise Unacceptable(f"envelope.{error.code}: {error}"[:500]) from error
    except UnicodeDecodeError as error:
        raise Unacceptable("envelope.field: a text in it is not valid UTF-8") from error
    if delivery.message_id != job.id:
        raise Unacceptable("envelope.message_id: the message id is not the job's id")
    number = 1 + sum(not code.startswith("placement.") for code in delivery.history)
    ended: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
    return Run(job, delivery.tenant, number, delivery, rules.home_of(delivery.tenant, job.volume), digest(job), ended)
