"""The client's side of the broker, as narrow as it can be: publish one message, hear every reply.

`sandpool.amqp` is the real one (RabbitMQ); the in-process twin of the cluster's embedded mode is another. The client
knows only this file. Bodies are opaque here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

SUBMITTED_HEADER = "sandpool-submitted-at-ms"
"""Unix time in milliseconds at which the caller published: what waiting time is counted from. An integer, because
AMQP's own timestamp counts whole seconds and the Python codec writes floats with 24 bits."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish: persistent, mandatory, with the reply queue and the user set by the transport."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    correlation_id: str = ""
    headers: Mapping[str, str | int] = field(default_factory=dict)


class Listener(Protocol):
    """What a transport calls, on the event loop that opened it. Both are quick and never block."""

    def on_reply(self, body: bytes, correlation_id: str) -> None:
        """One message from the reply queue."""

    def on_gap(self) -> None:
        """Replies may have been lost: the connection broke and is back."""


class Transport(Protocol):
    """Every method raises `sandpool.errors` only."""

    @property
    def tenant(self) -> str:
        """The broker user, which is the tenant."""

    async def open(self, listener: Listener, timeout_s: float) -> None:
        """Connect and create the reply queue. Raises BrokerUnavailable."""

    async def publish(self, message: Outgoing, timeout_s: float) -> asyncio.Future[None]:
        """Hand the message to the broker, waiting while it takes none (back-pressure).

        The future ends with the broker's confirm, or with BrokerUnavailable (lost, refused: publish it again) or
        UsageError (no queue takes this kind of job). The caller bounds its wait for it.
        """

    async def close(self) -> None:
        """Disconnect. Safe to call twice."""


OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. `total` is None while the iterable of jobs has no length."""

    submitted: int
    ended: int
    total: int | None
