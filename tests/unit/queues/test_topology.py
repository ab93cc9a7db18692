"""The topology is complete and right for both generations of RabbitMQ: `queues.topology`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queues.memory.broker import topic_matches
from queues.topology import (
    DEAD,
    JOB_KEYS,
    JOB_QUEUES,
    RETRY_DELAYS_S,
    Limits,
    home_of,
    parked,
    parked_name,
    retry_delay,
    retry_name,
    topology,
)
from sandpool.job import SqlJob
from sandpool.wire import JOBS_EXCHANGE, job_routing_key


def test_every_queue_is_a_bounded_quorum_queue_that_refuses_rather_than_drops() -> None:
    for queue in topology().queues:
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-overflow"] == "reject-publish"
        waits = "x-message-ttl" in queue.arguments
        assert waits or "x-max-length" in queue.arguments, queue.name


def test_whatever_dead_letters_does_so_at_least_once_into_something_declared() -> None:
    declared = {exchange.name for exchange in topology().exchanges}
    for queue in topology().queues:
        if queue.name == DEAD:
            assert "x-dead-letter-exchange" not in queue.arguments
            continue
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-dead-letter-exchange"] in declared
        assert "x-dead-letter-routing-key" not in queue.arguments, "a retry goes home by the job's own key"


def test_every_binding_names_a_declared_exchange() -> None:
    kinds = {exchange.name: exchange.kind for exchange in topology().exchanges}
    for queue in topology().queues:
        assert (kinds[queue.exchange] == "fanout") == (queue.routing_key == "")


def test_every_kind_and_priority_of_job_has_a_queue() -> None:
    for priority in ("interactive", "batch"):
        assert job_routing_key(SqlJob(database="d", sql="select 1", priority=priority)) in JOB_KEYS
    keys = [queue.routing_key for queue in topology().queues if queue.exchange == JOBS_EXCHANGE]
    assert sorted(keys) == sorted(JOB_KEYS)


def test_limits_reach_the_queues() -> None:
    arguments = {queue.name: queue.arguments for queue in topology(Limits(delivery_limit=7, jobs=8, dead=9)).queues}
    jobs = arguments["sandpool.jobs.gpu.interactive"]
    assert (jobs["x-delivery-limit"], jobs["x-max-length"], arguments[DEAD]["x-max-length"]) == (7, 8, 9)


@given(st.floats(min_value=-10, max_value=1e9))
def test_a_retry_never_comes_earlier_than_asked_but_for_the_longest_delay(delay_s: float) -> None:
    had_s = retry_delay(delay_s)
    assert had_s in RETRY_DELAYS_S
    assert had_s >= delay_s or had_s == max(RETRY_DELAYS_S)
    assert not any(delay_s <= other < had_s for other in RETRY_DELAYS_S)
    assert retry_name(had_s) in {queue.name for queue in topology().queues}


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("job.acme.Succeeded", "job.acme.Succeeded", True),
        ("job.acme.*", "job.acme.Succeeded", True),
        ("job.acme.#", "job.acme", True),
        ("job.#", "job.acme.Succeeded", True),
        ("#", "job.acme.Succeeded", True),
        ("#.Failed", "job.acme.Failed", True),
        ("job.*.Failed", "job.acme.Succeeded", False),
        ("job.acme.#", "job.acme-2.Failed", False),
        ("job.*", "job.acme.Failed", False),
        ("*", "", True),
    ],
)
def test_the_twin_matches_topics_as_amqp_does(pattern: str, key: str, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


def test_a_parked_queue_is_bounded_leads_home_and_is_told_from_every_other() -> None:
    for queue in JOB_QUEUES:
        name = parked_name("ac_me-2", queue)
        (declared,) = parked(name).queues
        assert (declared.name, declared.exchange) == (name, "sandpool.parked.ac_me-2")
        assert declared.routing_key in JOB_KEYS, "so that what nobody takes goes home by it"
        assert declared.arguments["x-dead-letter-exchange"] == JOBS_EXCHANGE
        assert "x-max-length" in declared.arguments
        assert home_of(name) == queue == home_of(queue)
        assert parked(queue).queues == ()
