"""`sandpool dead` against a real scheduler on the in-memory broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queues.message import Message
from queues.topology import DEAD
from sandpool import SqlJob
from sandpool.outcome import Ending
from sandpool.wire import JOBS_EXCHANGE, encode_job
from tests.unit.cli.conftest import House
from workers.volumes.record import read_record


@pytest.fixture
def configured(house: House) -> House:
    house.configure()
    house.broker.add_tenant("stranger")
    return house


def publish(house: House, body: bytes, message_id: str, user: str = "acme", **fields: Any) -> None:
    message = Message(body, message_id=message_id, user_id=user, **fields)
    house.broker.publish(user, JOBS_EXCHANGE, "sql.batch", message)


def bury(house: House, *ids: str, user: str = "stranger") -> None:
    """Dead letters of a user who is no tenant here, in this order."""
    for name in ids:
        publish(house, encode_job(SqlJob(id=name, database="flights", sql="select 1 as a")), name, user)
        house.wait_until(lambda name=name: name in ids_of(house))  # type: ignore[misc]


def ids_of(house: House) -> list[str]:
    return [held.message.message_id for held in house.broker.queue(DEAD).ready]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_empty_queue_lists_nothing_and_is_no_error(configured: House) -> None:
    run = configured.call("dead", "ls", "--json")
    assert (run.exit_code, run.stdout) == (0, "")
    assert configured.call("dead", "ls").exit_code == 0


def test_letters_are_listed_with_reason_tenant_job_and_size(configured: House) -> None:
    bury(configured, "first", "second")
    run = configured.call("dead", "ls", "--json")
    assert run.exit_code == 0, run.stderr
    first, second = lines(run.stdout)
    assert (first["id"], first["tenant"], first["reason"]) == ("first", "stranger", "tenant.unknown")
    assert first["queue"] == "sandpool.jobs.sql.batch"
    assert first["size_bytes"] > 0 and first["died_at"]
    assert second["id"] == "second"
    table = configured.call("dead", "ls", "--limit", "1")
    assert "first" in table.stdout and "second" not in table.stdout
    assert "1 shown of 2" in table.stderr


def test_show_prints_the_envelope(configured: House) -> None:
    bury(configured, "one")
    (document,) = lines(configured.call("dead", "show", "one", "--json").stdout)
    assert document["envelope"]["job"]["sql"] == "select 1 as a"
    assert "select 1 as a" in configured.call("dead", "show", "one").stdout
    assert ids_of(configured) == ["one"]


def test_a_body_that_would_command_the_terminal_is_shown_as_escapes(configured: House) -> None:
    publish(configured, b"\x1b]0;owned\x07 no json", "evil")
    configured.wait_until(lambda: configured.broker.waiting(DEAD) == 1)
    run = configured.call("dead", "show", "evil")
    assert run.exit_code == 0
    assert "\x1b" not in run.stdout and "no json" in run.stdout


def test_show_of_an_unknown_id_exits_1(configured: House) -> None:
    run = configured.call("dead", "show", "nothing")
    assert (run.exit_code, run.stdout) == (1, "")
    assert "no such dead letter" in run.stderr


def test_a_dropped_letter_is_gone(configured: House) -> None:
    bury(configured, "a", "b", "c")
    run = configured.call("dead", "drop", "b", "z", "--json")
    assert run.exit_code == 1, "z was asked for and not there"
    assert lines(run.stdout) == [{"id": "b", "tenant": "stranger", "dropped": True, "refusal": ""}]
    assert ids_of(configured) == ["a", "c"]
    assert configured.call("dead", "drop", "--all", "--reason", "job.").exit_code == 0
    assert ids_of(configured) == ["a", "c"]
    assert configured.call("dead", "drop", "--all").exit_code == 0
    assert ids_of(configured) == []


def test_ids_or_all_must_be_given_but_not_both(configured: House) -> None:
    for command in ("requeue", "drop"):
        assert configured.call("dead", command).exit_code == 2
        assert configured.call("dead", command, "x", "--all").exit_code == 2


def test_a_letter_of_a_tenant_that_is_still_unknown_is_not_requeued(configured: House) -> None:
    bury(configured, "early")
    run = configured.call("dead", "requeue", "early")
    assert run.exit_code == 1
    assert "no tenant 'stranger' is registered" in run.stderr
    assert ids_of(configured) == ["early"]


def test_a_poison_job_runs_again_when_it_is_requeued(configured: House) -> None:
    job = SqlJob(id="poison", database="flights", sql="select 42 as answer")
    publish(configured, encode_job(job), "poison", headers={"x-delivery-count": 9})
    configured.wait_until(lambda: configured.broker.waiting(DEAD) == 1)
    record = read_record(configured.volume, "acme", "poison")
    assert record is not None and record.ending is Ending.Lost
    run = configured.call("dead", "requeue", "--all", "--tenant", "acme", "--json")
    assert run.exit_code == 0, run.stderr
    assert lines(run.stdout) == [{"id": "poison", "tenant": "acme", "requeued": True, "refusal": ""}]
    configured.wait_until(lambda: configured.bench.ran == ["poison"])
    configured.wait_until(lambda: read_record(configured.volume, "acme", "poison") is not None)
    again = read_record(configured.volume, "acme", "poison")
    assert again is not None and again.ending is Ending.Succeeded
    assert configured.broker.waiting(DEAD) == 0


def test_an_ending_of_the_work_itself_stands_when_its_letter_is_requeued(configured: House) -> None:
    job = SqlJob(id="done", database="flights", sql="select 1 as a")
    publish(configured, encode_job(job), "done")
    configured.wait_until(lambda: read_record(configured.volume, "acme", "done") is not None)
    recorded = read_record(configured.volume, "acme", "done")
    letter = {"sandpool-tenant": "acme", "sandpool-reason": "x", "sandpool-queue": "sandpool.jobs.sql.batch"}
    configured.broker.publish("sandpool", DEAD, "", Message(encode_job(job), message_id="done", headers=letter))
    assert configured.call("dead", "requeue", "done").exit_code == 0
    configured.wait_until(lambda: configured.broker.waiting(DEAD) == 0)
    assert read_record(configured.volume, "acme", "done") == recorded
    assert configured.bench.ran == ["done"]


def test_without_a_broker_the_exit_code_is_3(configured: House) -> None:
    configured.broker.delete_queue("sandpool", DEAD)
    run = configured.call("dead", "ls")
    assert run.exit_code == 3
    assert "Traceback" not in run.stderr
