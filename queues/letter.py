"""One dead letter as an operator sees it, and the message that makes it a job again.

Pure; both `queues.dead` and its in-process twin leave every judgement to this file. A letter reaches `sandpool.dead` in
two ways: the scheduler puts it there with a reason, or the broker does, at the delivery limit, as it was.

Trust is that of `queues.message`: what the scheduler wrote of a letter is believed, what a tenant wrote is not. The
scheduler's letters carry no `user_id` and no `x-death`; a message that the broker gave up has `x-death`, and belongs to
the user whom the broker verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from queues.errors import NotRequeueable
from queues.message import (
    ATTEMPT_HEADER,
    DEATHS_HEADER,
    DELAYS_HEADER,
    DIED_HEADER,
    HISTORY_HEADER,
    MAX_HISTORY,
    QUEUE_HEADER,
    REASON_HEADER,
    TAKEN_HEADER,
    TENANT_HEADER,
    Message,
    count_of,
    moment_s_of,
    numbers_of,
    passed_headers,
    routing_key_of,
    text_of,
    texts_of,
)
from queues.permissions import is_reply_queue, is_tenant
from queues.topology import JOB_QUEUES, home_of
from sandpool.transport import SUBMITTED_HEADER

MAX_DEATHS = 20
REQUEUED = "placement.requeued"
"""In the history of a job that an operator put back: like every `placement.*`, it uses up no attempt."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Death:
    """The broker moved the message out of `queue`, `count` times, because of `reason` (`expired`, `delivery_limit`)."""

    queue: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of `sandpool.dead`."""

    id: str
    """The job's id, where the message has one that can be an id; else `body-` and the start of its body's SHA-256."""
    tenant: str
    """Empty: nobody whom the broker verified."""
    reason: str
    queue: str
    """Where it was taken from; empty where nobody says."""
    attempt: int
    deliveries: int
    """How often the broker had handed out the message when it died; 0: unknown."""
    history: tuple[str, ...]
    delays_s: tuple[int, ...]
    deaths: tuple[Death, ...]
    submitted_at_s: float
    """Unix time; 0.0 when unknown, as `died_at_s`."""
    died_at_s: float
    message: Message
    token: Any = None

    @property
    def size_bytes(self) -> int:
        return len(self.message.body)


def read_letter(message: Message, service: str, token: Any) -> Letter:
    """The letter in a message from `sandpool.dead`; `service` is the scheduler's own user."""
    headers = message.headers
    deaths = _deaths(headers.get(DEATHS_HEADER))
    moved_by_broker = DEATHS_HEADER in headers
    ours = message.user_id == service or not (message.user_id or moved_by_broker)
    told: Mapping[str, Any] = headers if ours else {}
    tenant = text_of(told.get(TENANT_HEADER)) if ours else message.user_id
    last = deaths[0] if deaths else Death("", "unknown", 0)
    return Letter(
        id=message.message_id if _ID.fullmatch(message.message_id) else _body_id(message.body),
        tenant=tenant if is_tenant(tenant) and tenant != service else "",
        reason=f"broker.{last.reason}" if moved_by_broker else text_of(told.get(REASON_HEADER)) or "unknown",
        queue=home_of(last.queue) if moved_by_broker else text_of(told.get(QUEUE_HEADER)),
        attempt=count_of(told.get(ATTEMPT_HEADER)),
        deliveries=count_of(told.get(TAKEN_HEADER)) if TAKEN_HEADER in told else 0,
        history=texts_of(told.get(HISTORY_HEADER)),
        delays_s=numbers_of(told.get(DELAYS_HEADER)),
        deaths=deaths,
        submitted_at_s=moment_s_of(headers.get(SUBMITTED_HEADER)),
        died_at_s=_died_at_s(headers.get(DEATHS_HEADER)) if moved_by_broker else moment_s_of(told.get(DIED_HEADER)),
        message=message,
        token=token,
    )


def requeued(letter: Letter, service: str) -> tuple[str, Message]:
    """The routing key and the message by which this letter is a job again, at its first attempt.

    Raises NotRequeueable.
    """
    if not letter.tenant:
        raise NotRequeueable("nobody whom the broker verified has sent it: nobody's job can be run")
    if letter.queue not in JOB_QUEUES:
        raise NotRequeueable(f"it comes from {letter.queue or 'no known queue'}, which holds no jobs")
    sent = letter.message
    earlier = [code for code in letter.history if code == REQUEUED][-MAX_HISTORY + 1 :]
    message = Message(
        body=sent.body,
        message_id=sent.message_id,
        user_id=service,
        reply_to=sent.reply_to if is_reply_queue(sent.reply_to, letter.tenant) else "",
        correlation_id=sent.correlation_id,
        headers={
            **passed_headers(sent.headers),
            TENANT_HEADER: letter.tenant,
            ATTEMPT_HEADER: 1,
            HISTORY_HEADER: [*earlier, REQUEUED],
            DELAYS_HEADER: [0] * (len(earlier) + 1),
            SUBMITTED_HEADER: round(letter.submitted_at_s * 1000),
        },
    )
    return routing_key_of(letter.queue), message


def _body_id(body: bytes) -> str:
    return f"body-{hashlib.sha256(body).hexdigest()[:16]}"


def _entries(value: object) -> list[Mapping[str, Any]]:
    found = [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    return found[:MAX_DEATHS]


def _deaths(value: object) -> tuple[Death, ...]:
    return tuple(
        Death(
            text_of(entry.get("queue"))[:255],
            text_of(entry.get("reason"))[:64] or "unknown",
            count_of(entry.get("count")),
        )
        for entry in _entries(value)
    )


def _died_at_s(value: object) -> float:
    moment = next((entry.get("time") for entry in _entries(value)), None)
    return moment.timestamp() if isinstance(moment, datetime) else 0.0
