"""Whose message it is and what may be believed of it: `queues.message`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queues.door import Delivery
from queues.message import (
    ATTEMPT_HEADER,
    DELAYS_HEADER,
    DELIVERIES_HEADER,
    HISTORY_HEADER,
    MAX_HISTORY,
    REASON_HEADER,
    TENANT_HEADER,
    Message,
    dead_letter,
    next_attempt,
    read_delivery,
    routing_key_of,
)
from queues.permissions import is_reply_queue, is_tenant
from queues.topology import JOB_KEYS, JOB_QUEUES
from sandpool.transport import SUBMITTED_HEADER

SERVICE = "sandpool"
QUEUE = "sandpool.jobs.sql.batch"
ANY_VALUE = st.none() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers()) | st.binary()


def read(**fields: Any) -> Delivery:
    return read_delivery(Message(**{"body": b"{}", **fields}), QUEUE, SERVICE, token=None)


@given(
    user_id=st.sampled_from(["acme", "", "globex"]) | st.text(),
    headers=st.dictionaries(
        st.sampled_from(
            [TENANT_HEADER, ATTEMPT_HEADER, HISTORY_HEADER, SUBMITTED_HEADER, DELIVERIES_HEADER, "traceparent"]
        ),
        ANY_VALUE,
    ),
    reply_to=st.text() | st.just("sandpool.reply.acme.x"),
)
def test_only_the_broker_verified_user_becomes_the_tenant(user_id: str, headers: dict[str, Any], reply_to: str) -> None:
    delivery = read(user_id=user_id, headers=headers, reply_to=reply_to)
    if user_id != SERVICE:
        assert delivery.tenant == (user_id if is_tenant(user_id) else None)
        assert (delivery.attempt, delivery.history) == (1, ())
    assert delivery.tenant != SERVICE
    assert delivery.deliveries >= 1
    assert delivery.submitted_at_s >= 0
    if delivery.reply_to:
        assert delivery.tenant is not None
        assert is_reply_queue(delivery.reply_to, delivery.tenant)


@given(headers=st.dictionaries(st.sampled_from([TENANT_HEADER, ATTEMPT_HEADER, HISTORY_HEADER]) | st.text(), ANY_VALUE))
def test_whatever_the_scheduler_itself_sent_is_read_without_error(headers: dict[str, Any]) -> None:
    delivery = read(user_id=SERVICE, headers=headers)
    assert delivery.tenant is None or is_tenant(delivery.tenant)
    assert delivery.attempt >= 1


def test_a_message_of_the_scheduler_without_a_tenant_belongs_to_nobody() -> None:
    assert read(user_id=SERVICE).tenant is None
    assert read(user_id=SERVICE, headers={TENANT_HEADER: SERVICE}).tenant is None
    assert read(user_id=SERVICE, headers={TENANT_HEADER: "a/../b"}).tenant is None


@given(
    codes=st.lists(st.text(min_size=1, max_size=20), max_size=5),
    submitted_ms=st.integers(min_value=0, max_value=2**50),
    reply_to=st.sampled_from(["", "sandpool.reply.acme.q1"]),
)
def test_a_retry_changes_nothing_but_attempt_and_history(codes: list[str], submitted_ms: int, reply_to: str) -> None:
    headers = {SUBMITTED_HEADER: submitted_ms, "traceparent": "00-1"}
    first = read(user_id="acme", message_id="j1", correlation_id="c1", reply_to=reply_to, headers=headers)
    delivery = first
    for code in codes:
        delivery = read_delivery(next_attempt(delivery, code, 5, SERVICE), QUEUE, SERVICE, token=None)
    assert delivery.attempt == 1 + len(codes)
    assert delivery.history == tuple(codes)
    assert delivery.delays_s == (5,) * len(codes)
    for field in ("tenant", "body", "message_id", "correlation_id", "reply_to", "submitted_at_s", "headers", "queue"):
        assert getattr(delivery, field) == getattr(first, field), field


def test_the_history_of_a_job_is_bounded() -> None:
    delivery = read(user_id="acme")
    for _ in range(MAX_HISTORY + 20):
        delivery = read_delivery(next_attempt(delivery, "c" * 9999, 1, SERVICE), QUEUE, SERVICE, token=None)
    assert len(delivery.history) == len(delivery.delays_s) == MAX_HISTORY
    assert delivery.attempt == MAX_HISTORY + 21
    assert max(map(len, delivery.history)) <= 512


def test_a_job_of_nobody_cannot_be_retried() -> None:
    with pytest.raises(ValueError, match="dead-lettered"):
        next_attempt(read(user_id=""), "x", 1, SERVICE)


def test_headers_that_route_are_never_sent_on() -> None:
    delivery = read(
        user_id="acme", headers={"CC": ["sandpool.dead"], "BCC": ["x"], "x-death": [{}], "tracestate": "a=b"}
    )
    sent = next_attempt(delivery, "x", 1, SERVICE)
    bookkeeping = {TENANT_HEADER, ATTEMPT_HEADER, HISTORY_HEADER, DELAYS_HEADER, SUBMITTED_HEADER}
    assert set(sent.headers) == {"tracestate", *bookkeeping}


def test_a_dead_letter_sent_back_by_an_operator_is_not_taken_for_a_retry() -> None:
    letter = dead_letter(read(user_id="acme", message_id="j1"), "malformed" * 1000, 1.0)
    assert letter.user_id == ""
    assert len(letter.headers[REASON_HEADER]) <= 512
    moved = read_delivery(letter, QUEUE, SERVICE, token=None)
    assert moved.tenant is None


def test_deliveries_count_from_one() -> None:
    assert read().deliveries == 1
    assert read(headers={DELIVERIES_HEADER: 3}).deliveries == 4
    assert read(headers={DELIVERIES_HEADER: -5}).deliveries == 1


def test_every_job_queue_has_its_routing_key() -> None:
    assert tuple(map(routing_key_of, JOB_QUEUES)) == JOB_KEYS
    with pytest.raises(ValueError, match="no job queue"):
        routing_key_of("sandpool.control")


def test_waiting_again_and_again_for_the_same_does_not_push_attempts_out_of_the_history() -> None:
    delivery = read(user_id="acme")
    for code in ("worker.lost", *["placement.wait"] * 500, "worker.lost"):
        delivery = read_delivery(next_attempt(delivery, code, 10, SERVICE), QUEUE, SERVICE, token=None)
    assert delivery.history == ("worker.lost", "placement.wait", "worker.lost")
    assert delivery.delays_s == (10, 5000, 10)
