"""One message as both doors see it, and the decisions about it: whose is it, which attempt, what does a retry carry.

Pure. `queues.amqp` and `queues.memory` translate to and from their own messages and leave every judgement to this file.

Trust: `user_id` is verified by the broker, everything else is what the publisher claims. The bookkeeping headers
(`sandpool-*`) of a retried job are believed only where `user_id` is the scheduler's own user, who wrote them. Replies
and dead letters are published without `user_id`, so that a tenant who routes a reply of ours back into
`sandpool.jobs` (a reply queue may have a dead-letter exchange) gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from queues.door import Delivery
from queues.permissions import is_reply_queue, is_tenant
from queues.topology import home_of
from sandpool.transport import SUBMITTED_HEADER
from sandpool.wire import JOBS_EXCHANGE

TENANT_HEADER = "sandpool-tenant"
ATTEMPT_HEADER = "sandpool-attempt"
HISTORY_HEADER = "sandpool-history"
DELAYS_HEADER = "sandpool-delays-s"
"""Beside the history: how many seconds each of those retries waited."""
REASON_HEADER = "sandpool-reason"
QUEUE_HEADER = "sandpool-queue"
DIED_HEADER = "sandpool-died-at-ms"
TAKEN_HEADER = "sandpool-deliveries"
"""In a dead letter: how often the broker had handed out the message (`Delivery.deliveries`)."""
DEATHS_HEADER = "x-death"
"""Set by the broker on a message that it moved to a dead-letter exchange: one entry for each queue and reason."""
DELIVERIES_HEADER = "x-delivery-count"
"""Set by quorum queues from the second delivery on: how many deliveries there were before this one."""

PASSED_HEADERS = ("traceparent", "tracestate", "baggage")
"""What travels on with a job. Never CC or BCC (they route) nor x-death (the broker's own)."""

WAITED = "placement."
"""How codes begin that stand for waiting and not for an attempt."""
PARKED = "placement.parked"
MAX_HISTORY = 100
MAX_TEXT = 512
_MAX_HEADER_TEXT = 8192


@dataclass(frozen=True, slots=True)
class Message:
    """Properties and body of one AMQP message, without the vendor's types."""

    body: bytes
    message_id: str = ""
    user_id: str = ""
    reply_to: str = ""
    correlation_id: str = ""
    persistent: bool = True
    headers: Mapping[str, Any] = field(default_factory=dict)


def read_delivery(message: Message, queue: str, service: str, token: Any) -> Delivery:
    """What the scheduler sees of a message from `queue`; `service` is the user the scheduler itself is."""
    headers = message.headers
    ours = message.user_id == service
    tenant = text_of(headers.get(TENANT_HEADER)) if ours else message.user_id
    trusted_tenant = tenant if is_tenant(tenant) and tenant != service else None
    reply_to = message.reply_to if trusted_tenant and is_reply_queue(message.reply_to, trusted_tenant) else ""
    count = headers.get(DELIVERIES_HEADER)
    return Delivery(
        queue=home_of(queue),
        parked=queue != home_of(queue),
        body=message.body,
        tenant=trusted_tenant,
        message_id=message.message_id,
        reply_to=reply_to,
        correlation_id=message.correlation_id,
        attempt=count_of(headers.get(ATTEMPT_HEADER)) if ours else 1,
        deliveries=count + 1 if isinstance(count, int) and count >= 0 else 1,
        submitted_at_s=moment_s_of(headers.get(SUBMITTED_HEADER)),
        history=texts_of(headers.get(HISTORY_HEADER)) if ours else (),
        delays_s=numbers_of(headers.get(DELAYS_HEADER)) if ours else (),
        headers=passed_headers(headers),
        token=token,
    )


def next_attempt(delivery: Delivery, code: str, delay_s: int, service: str) -> Message:
    """The same job for the attempt after `delivery`, whose error was `code`; it waits `delay_s` before.

    To wait again for the same thing (`placement.*`) adds to the last entry of the history: a job that waits for long
    must not push its real attempts out of it.
    """
    if delivery.tenant is None:
        raise ValueError("a message without a verified tenant is dead-lettered, never retried")
    history, delays_s = delivery.history, delivery.delays_s
    if code.startswith(WAITED) and history[-1:] == (code,) and delays_s:
        history, delays_s, delay_s = history[:-1], delays_s[:-1], delays_s[-1] + delay_s
    return Message(
        body=delivery.body,
        message_id=delivery.message_id,
        user_id=service,
        reply_to=delivery.reply_to,
        correlation_id=delivery.correlation_id,
        headers={
            **delivery.headers,
            TENANT_HEADER: delivery.tenant,
            ATTEMPT_HEADER: delivery.attempt + 1,
            HISTORY_HEADER: [*history, code[:MAX_TEXT]][-MAX_HISTORY:],
            DELAYS_HEADER: [*delays_s, delay_s][-MAX_HISTORY:],
            SUBMITTED_HEADER: round(delivery.submitted_at_s * 1000),
        },
    )


def dead_letter(delivery: Delivery, reason: str, now_s: float) -> Message:
    """The message for `sandpool.dead`: body untouched, everything an operator asks about in the headers.

    It keeps its way back to the caller, who is answered when an operator puts the job into its queue again.
    """
    return Message(
        body=delivery.body,
        message_id=delivery.message_id,
        reply_to=delivery.reply_to,
        correlation_id=delivery.correlation_id,
        headers={
            **delivery.headers,
            REASON_HEADER: reason[:MAX_TEXT],
            QUEUE_HEADER: delivery.queue,
            TENANT_HEADER: delivery.tenant or "",
            ATTEMPT_HEADER: delivery.attempt,
            TAKEN_HEADER: delivery.deliveries,
            HISTORY_HEADER: list(delivery.history),
            DELAYS_HEADER: list(delivery.delays_s),
            SUBMITTED_HEADER: round(delivery.submitted_at_s * 1000),
            DIED_HEADER: round(now_s * 1000),
        },
    )


def routing_key_of(queue: str) -> str:
    """The key that routes to a job queue (`sandpool.jobs.sql.batch` -> `sql.batch`). Raises ValueError for others."""
    key = queue.removeprefix(f"{JOBS_EXCHANGE}.")
    if key == queue:
        raise ValueError(f"{queue} is no job queue: only jobs are retried")
    return key


def passed_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """What travels on with a job."""
    return {key: value for key in PASSED_HEADERS if (value := text_of(headers.get(key)))}


def text_of(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_HEADER_TEXT else ""


def count_of(value: object) -> int:
    return value if isinstance(value, int) and value >= 1 else 1


def texts_of(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def numbers_of(value: object) -> tuple[int, ...]:
    return tuple(item for item in value if isinstance(item, int)) if isinstance(value, list) else ()


def moment_s_of(value: object) -> float:
    """The caller's claim of when it published. It only feeds the tenant's own waiting time."""
    return value / 1000 if isinstance(value, int) and value > 0 else 0.0
