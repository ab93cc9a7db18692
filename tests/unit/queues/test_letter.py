"""What may be believed of a dead letter, and what it becomes when it is put back: `queues.letter`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queues.errors import NotRequeueable
from queues.letter import REQUEUED, Letter, read_letter, requeued
from queues.message import (
    ATTEMPT_HEADER,
    DEATHS_HEADER,
    DELAYS_HEADER,
    DIED_HEADER,
    HISTORY_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    TAKEN_HEADER,
    TENANT_HEADER,
    Message,
    dead_letter,
    next_attempt,
    read_delivery,
)
from queues.permissions import is_tenant

SERVICE = "sandpool"
QUEUE = "sandpool.jobs.sql.batch"
ANY_VALUE = st.none() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers()) | st.binary()
OURS = (TENANT_HEADER, ATTEMPT_HEADER, HISTORY_HEADER, DELAYS_HEADER, REASON_HEADER, QUEUE_HEADER, TAKEN_HEADER)


def read(**fields: Any) -> Letter:
    return read_letter(Message(**{"body": b"{}", **fields}), SERVICE, None)


def died(reason: str = "job.poison", attempts: int = 0, **fields: Any) -> Letter:
    """A letter that the scheduler wrote, of a job of acme's."""
    first = Message(**{"body": b"{}", "message_id": "j1", "user_id": "acme", **fields})
    delivery = read_delivery(first, QUEUE, SERVICE, None)
    for _ in range(attempts):
        delivery = read_delivery(next_attempt(delivery, "worker.lost", 30, SERVICE), QUEUE, SERVICE, None)
    return read_letter(dead_letter(delivery, reason, 1_795_000_000.5), SERVICE, None)


def test_the_schedulers_letter_tells_the_whole_story() -> None:
    letter = died(attempts=2)
    assert (letter.id, letter.tenant, letter.reason, letter.queue) == ("j1", "acme", "job.poison", QUEUE)
    assert (letter.attempt, letter.deliveries) == (3, 1)
    assert (letter.history, letter.delays_s) == (("worker.lost",) * 2, (30, 30))
    assert letter.died_at_s == 1_795_000_000.5


@given(
    user_id=st.sampled_from(["acme", "", SERVICE]) | st.text(),
    headers=st.dictionaries(
        st.sampled_from([*OURS, DIED_HEADER, DEATHS_HEADER]) | st.text(),
        ANY_VALUE | st.lists(st.dictionaries(st.sampled_from(["queue", "reason", "count", "time"]), ANY_VALUE)),
    ),
    message_id=st.text(),
)
def test_no_message_is_beyond_reading(user_id: str, headers: dict[str, Any], message_id: str) -> None:
    letter = read(user_id=user_id, headers=headers, message_id=message_id)
    assert letter.id
    assert letter.id.isascii() and "/" not in letter.id
    assert letter.tenant == "" or (is_tenant(letter.tenant) and letter.tenant != SERVICE)
    assert len(letter.deaths) <= 20


@given(headers=st.dictionaries(st.sampled_from(OURS), st.sampled_from(["globex", QUEUE]) | ANY_VALUE))
def test_what_a_tenant_wrote_on_a_message_that_the_broker_gave_up_is_not_believed(headers: dict[str, Any]) -> None:
    deaths = [{"queue": QUEUE, "reason": "delivery_limit", "count": 1, "time": datetime.now(UTC)}]
    verified = read(user_id="acme", headers={**headers, DEATHS_HEADER: deaths})
    assert (verified.tenant, verified.reason, verified.queue) == ("acme", "broker.delivery_limit", QUEUE)
    assert (verified.history, verified.attempt) == ((), 1)
    assert read(user_id="", headers={**headers, DEATHS_HEADER: deaths}).tenant == ""


def test_a_letter_without_a_usable_id_is_named_by_its_body() -> None:
    assert read(message_id="").id == read(message_id="a/../b").id
    assert read(message_id="").id.startswith("body-")
    assert read(body=b"other").id != read().id


def test_a_requeued_letter_starts_again_and_remembers_only_that() -> None:
    letter = died(attempts=3, reply_to="sandpool.reply.acme.q", headers={"traceparent": "00-1"})
    key, message = requeued(letter, SERVICE)
    job = read_delivery(message, QUEUE, SERVICE, None)
    assert key == "sql.batch"
    assert (job.tenant, job.attempt, job.history, job.delays_s) == ("acme", 1, (REQUEUED,), (0,))
    assert (job.reply_to, job.headers) == ("sandpool.reply.acme.q", {"traceparent": "00-1"})
    again = read_letter(dead_letter(job, "job.poison", 2.0), SERVICE, None)
    _, message = requeued(again, SERVICE)
    assert read_delivery(message, QUEUE, SERVICE, None).history == (REQUEUED, REQUEUED)


@pytest.mark.parametrize("queue", ["sandpool.control", "sandpool.dead", "sandpool.retry.5s", ""])
def test_what_is_no_job_is_never_requeued(queue: str) -> None:
    letter = read(headers={TENANT_HEADER: "acme", QUEUE_HEADER: queue, REASON_HEADER: "x"})
    with pytest.raises(NotRequeueable, match="holds no jobs"):
        requeued(letter, SERVICE)


def test_a_letter_of_nobody_is_never_requeued() -> None:
    with pytest.raises(NotRequeueable, match="nobody"):
        requeued(died(user_id=""), SERVICE)
