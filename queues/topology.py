"""Everything that exists on the broker, as data: exchanges, queues and bindings, right for RabbitMQ 3.10 and 4.x.

`topology(limits)` is what every door declares at `open()`; the in-process twin builds itself from the same value.
Who may use what is in `queues.permissions`. No I/O and no vendor here.

    sandpool.jobs    direct   sql.batch ...   -> sandpool.jobs.{sql,cpu,gpu}.{interactive,batch}
    sandpool.retry.* fanout   (the job's key) -> sandpool.retry.* -- its TTL over --> sandpool.jobs, by the job's key
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
