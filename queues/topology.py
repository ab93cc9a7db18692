"""Everything that exists on the broker, as data: exchanges, queues and bindings, right for RabbitMQ 3.10 and 4.x.

`topology(limits)` is what every door declares at `open()`; the in-process twin builds itself from the same value.
Who may use what is in `queues.permissions`. No I/O and no vendor here.

    sandpool.jobs    direct   sql.batch ...   -> sandpool.jobs.{sql,cpu,gpu}.{interactive,batch}
    sandpool.retry.* fanout   (the job's key) -> sandpool.retry.* -- its TTL over --> sandpool.jobs, by the job's key
    sandpool.parked.<tenant>  direct, as above -> sandpool.parked.<tenant>.sql.batch -- an hour over --> sandpool.jobs
    sandpool.dead    fanout                   -> sandpool.dead
    sandpool.control direct   control         -> sandpool.control
    sandpool.events  topic    job.<tenant>.<ending>, bound by whoever listens

Choices that look odd and why:

* One exchange and one queue per delay: a queue expires only from its head, so mixed delays in one queue would wait for
  each other. The exchange lets a message keep the job's own routing key, by which dead-lettering sends it home.
* `x-overflow: reject-publish` everywhere: it turns a full queue into a negative confirm (back-pressure that a
  publisher sees) and is what at-least-once dead-lettering demands. `drop-head` would lose jobs silently.
* `x-delivery-limit` is explicit because its default differs: none in 3.x, 20 in 4.x.
* `x-consumer-timeout` (known from 3.12, ignored by 3.10): the default of 30 minutes would close the channel under a
  long job. 3.10 needs `consumer_timeout` in its own configuration file instead.
* A parked queue is a tenant's own line behind its part of a job queue (`cluster.fairness`), declared when a scheduler
  starts to take from it. Its messages go home after an hour in which nobody took them, so that nothing is forgotten
  when a tenant is no longer configured.
* Nothing is transient, exclusive or auto-delete, and no QoS is global: 4.x removes those for quorum queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sandpool.job import MAX_TIMEOUT_S
from sandpool.wire import CONTROL_EXCHANGE, CONTROL_KEY, EVENTS_EXCHANGE, JOBS_EXCHANGE

NEEDS = ("sql", "cpu", "gpu")
PRIORITIES = ("interactive", "batch")
JOB_KEYS = tuple(f"{need}.{priority}" for need in NEEDS for priority in PRIORITIES)
JOB_QUEUES = tuple(f"{JOBS_EXCHANGE}.{key}" for key in JOB_KEYS)
CONTROL_QUEUE = CONTROL_EXCHANGE
DEAD = "sandpool.dead"
PARKED_PREFIX = "sandpool.parked."
PARKED_TTL_S = 3600
RETRY_DELAYS_S = (1, 5, 30, 120, 600)

_NO_LIMIT = 2**31 - 1
"""Looking at a dead letter is a hand-out without a settlement: 4.x would drop it at the 21st look."""
_CONSUMER_TIMEOUT_MS = int((MAX_TIMEOUT_S + 3600) * 1000)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queues. Changing one needs the queue to be deleted and declared anew, or a broker policy."""

    delivery_limit: int = 20
    """Hand-outs of one message that may end without a settlement before the broker dead-letters it."""
    jobs: int = 1_000_000
    """Most jobs that wait in one job queue; a publisher above it gets an error."""
    jobs_bytes: int = 4 * 1024**3
    control_calls: int = 100_000
    dead: int = 100_000
    dead_bytes: int = 1024**3
    """A full dead-letter queue holds up settling, it never drops: empty it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: Literal["direct", "fanout", "topic"]


@dataclass(frozen=True, slots=True)
class Queue:
    """One durable quorum queue and the keys that bind it to the exchange `exchange`."""

    name: str
    exchange: str
    routing_key: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]


def topology(limits: Limits | None = None) -> Topology:
    """What to declare, exchanges before queues."""
    limits = limits or Limits()
    retries = tuple(retry_name(delay_s) for delay_s in RETRY_DELAYS_S)
    exchanges = (
        Exchange(JOBS_EXCHANGE, "direct"),
        Exchange(CONTROL_EXCHANGE, "direct"),
        Exchange(EVENTS_EXCHANGE, "topic"),
        Exchange(DEAD, "fanout"),
        *(Exchange(name, "fanout") for name in retries),
    )
    work = {
        "x-delivery-limit": limits.delivery_limit,
        "x-consumer-timeout": _CONSUMER_TIMEOUT_MS,
        **_dead_letter_to(DEAD),
    }
    jobs = {**work, "x-max-length": limits.jobs, "x-max-length-bytes": limits.jobs_bytes}
    dead = {"x-max-length": limits.dead, "x-max-length-bytes": limits.dead_bytes, "x-delivery-limit": _NO_LIMIT}
    queues = (
        Queue(DEAD, DEAD, "", _quorum(dead)),
        *(Queue(name, JOBS_EXCHANGE, key, _quorum(jobs)) for name, key in zip(JOB_QUEUES, JOB_KEYS, strict=True)),
        Queue(CONTROL_QUEUE, CONTROL_EXCHANGE, CONTROL_KEY, _quorum({**work, "x-max-length": limits.control_calls})),
        *(
            Queue(name, name, "", _quorum({"x-message-ttl": delay_s * 1000, **_dead_letter_to(JOBS_EXCHANGE)}))
            for name, delay_s in zip(retries, RETRY_DELAYS_S, strict=True)
        ),
    )
    return Topology(exchanges, queues)


def parked_name(tenant: str, queue: str) -> str:
    """The queue in which this tenant's own messages of a job queue wait."""
    return f"{parked_exchange(tenant)}.{queue.removeprefix(f'{JOBS_EXCHANGE}.')}"


def parked_exchange(tenant: str) -> str:
    return f"{PARKED_PREFIX}{tenant}"


def home_of(queue: str) -> str:
    """The job queue behind a parked one; every other name as it is."""
    if not queue.startswith(PARKED_PREFIX):
        return queue
    _tenant, _, key = queue.removeprefix(PARKED_PREFIX).partition(".")  # no dot can be in a tenant's name
    return f"{JOBS_EXCHANGE}.{key}"


def parked(queue: str, limits: Limits | None = None) -> Topology:
    """What to declare before taking from a parked queue; nothing for any other."""
    if not queue.startswith(PARKED_PREFIX):
        return Topology((), ())
    limits = limits or Limits()
    tenant, _, key = queue.removeprefix(PARKED_PREFIX).partition(".")
    arguments = {
        "x-message-ttl": PARKED_TTL_S * 1000,
        "x-max-length": limits.jobs,
        "x-max-length-bytes": limits.jobs_bytes,
        "x-delivery-limit": limits.delivery_limit,
        "x-consumer-timeout": _CONSUMER_TIMEOUT_MS,
        **_dead_letter_to(JOBS_EXCHANGE),
    }
    exchange = parked_exchange(tenant)
    return Topology((Exchange(exchange, "direct"),), (Queue(queue, exchange, key, _quorum(arguments)),))


def retry_name(delay_s: int) -> str:
    """Exchange and queue in which a job waits `delay_s` seconds."""
    return f"sandpool.retry.{delay_s}s"


def retry_delay(delay_s: float) -> int:
    """The delay that is really had for a wished one: the next longer of RETRY_DELAYS_S, at most the longest."""
    return next((delay for delay in RETRY_DELAYS_S if delay >= delay_s), RETRY_DELAYS_S[-1])


def _quorum(arguments: Mapping[str, str | int]) -> dict[str, str | int]:
    return {"x-queue-type": "quorum", "x-overflow": "reject-publish", **arguments}


def _dead_letter_to(exchange: str) -> dict[str, str | int]:
    return {"x-dead-letter-exchange": exchange, "x-dead-letter-strategy": "at-least-once"}
