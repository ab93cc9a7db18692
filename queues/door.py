"""The door between the message broker and the scheduler: what comes in, and the three ways to settle it.

`queues.amqp` is the real one (RabbitMQ), `queues.memory` the in-process twin; both pass the same suite. The scheduler
knows only this file. A door never looks inside a job: bodies are opaque bytes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message taken from a queue and not settled yet."""

    queue: str
    body: bytes
    tenant: str | None
    """The broker-verified user who published it; None when the publisher did not let the broker verify it."""
    message_id: str
    reply_to: str
    """Reply queue to answer on, already checked to belong to `tenant`; empty: nobody waits for a direct answer."""
    correlation_id: str
    attempt: int
    """1 for the first try; counts the delayed retries."""
    deliveries: int
    """How often the broker has handed out this very message, this time included: above 1 after a lost consumer."""
    submitted_at_s: float
    """Unix time at which the caller published; 0.0 when unknown."""
    history: tuple[str, ...] = ()
    """Error codes of the attempts before this one."""
    delays_s: tuple[int, ...] = ()
    """How long each of those retries waited."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Other headers, for example W3C `traceparent`."""
    parked: bool = False
    """Whether it comes from its tenant's own queue; `queue` is the job queue behind that."""
    token: Any = None
    """The door's own handle for settling; opaque to everyone else."""


class Door(Protocol):
    """What the scheduler needs of a broker. Every method has a deadline inside and raises `queues.errors` only.

    A method that raises for a delivery has given it back or lost it with its connection: either way it comes again.
    """

    async def open(self) -> None:
        """Connect and declare the whole topology (idempotent)."""

    async def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        """Start handing out messages of one queue, at most `prefetch` unsettled at once; again: change the prefetch."""

    async def stop_consuming(self) -> None:
        """Take no more; what is unsettled stays ours until settled or the door closes."""

    async def ack(self, delivery: Delivery) -> None:
        """Done: the broker forgets the message. A delivery of a lost connection is silently ignored: it comes again."""

    async def retry(self, delivery: Delivery, delay_s: float, code: str) -> None:
        """Another attempt after about `delay_s` (rounded up to a delay queue); publishes confirmed, then acks."""

    async def park(self, delivery: Delivery) -> None:
        """Into its tenant's own queue behind the job queue (`queues.topology.parked_name`), which somebody consumes;
        publishes confirmed, then acks."""

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Into `sandpool.dead` with the reason and the history in its headers; publishes confirmed, then acks."""

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        """Answer the caller directly (no error when the reply queue is gone)."""

    async def publish_event(self, routing_key: str, body: bytes) -> None:
        """Publish on `sandpool.events`, confirmed."""

    async def publish_outcome(self, delivery: Delivery, routing_key: str, body: bytes) -> None:
        """The outcome to whoever waits for it: `reply` to the caller and an event on `sandpool.events`.

        Cheaper than both calls, and meant to be followed by `ack`, which the broker handles after it. Without a
        listener on `sandpool.events` it does not wait for the broker; the record in the volume is what lasts.
        """

    async def depths(self) -> dict[str, int]:
        """How many messages wait in each queue of the topology, and in each parked one that is consumed here."""

    async def close(self) -> None:
        """Hand back what is unsettled and disconnect."""
