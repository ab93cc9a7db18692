"""Nodes in trouble: a host that takes work and never answers, a full disk, labels that no node has together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from cluster import dispatch_hosts
from cluster.dispatch import RayBench
from cluster.dispatch_hosts import HostLink
from cluster.errors import WorkerLost
from cluster.host_views import LEAST_DISK_BYTES, Claims, view_of
from cluster.placement import Need, Never, Node, Placed, SandboxNeed, Wait, place
from cluster.retry import Again, decide
from sandpool.outcome import Ending, ErrorInfo
from tests.unit.cluster.test_link import FakeActor, Method, statement
from tests.unit.cluster.test_nodes_follow import Budgeted, actors, bench, cluster
from workers.attempt import Attempt
from workers.sandbox.hosting import HostSpec, HostStatus

__all__ = ["actors", "bench"]  # fixtures
GIB = 1 << 30
NEED = Need(sandbox=SandboxNeed(image="base", cpus=1, memory_bytes=GIB))
WELL = HostStatus(memory_bytes=8 * GIB, cpus=8, most_sandboxes=8, images=("base",))


class FakeHost(FakeActor):
    """A host actor whose status can hang while it takes work."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.status = Method(self._status)

    async def _status(self) -> bytes:
        if self.silent:
            await asyncio.Event().wait()
        return msgspec.msgpack.encode(WELL)


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FakeHost, HostLink]]:
    monkeypatch.setattr(dispatch_hosts, "POLL_S", 0.01)
    monkeypatch.setattr("cluster.link.CALL_TIMEOUT_S", 0.05)
    actor = FakeHost()
    link = HostLink(actor, HostSpec(folder="/nowhere", images="/nowhere"), 1.0, lambda: None)
    await link.open()
    yield actor, link
    link.release()


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_host_that_takes_work_and_says_nothing_more_gets_none_until_it_does(
    host: tuple[FakeHost, HostLink],
) -> None:
    actor, link = host
    node = lambda: Node("a", host=link.view(("cpu",)))  # noqa: E731
    assert place(NEED, [node()]) == Placed("a")
    actor.silent = True
    await until(lambda: isinstance(place(NEED, [node()]), Wait))
    answer = place(NEED, [node()])
    assert isinstance(answer, Wait) and answer.reason == "host a: it does not answer"
    assert link.status is None
    actor.silent = False
    await until(lambda: place(NEED, [node()]) == Placed("a"))


async def test_a_host_that_needs_long_to_open_is_waited_for_and_one_that_cannot_open_is_not(
    bench: RayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.link.CALL_TIMEOUT_S", 0.05)
    await bench._follow(cluster("a"))
    slow = FakeHost()
    slow.silent = True
    bench._hosts._links["a"] = link = HostLink(slow, HostSpec(folder="/nowhere", images="/nowhere"), 1.0, lambda: None)
    await link.open()
    bench._worker_changed("a")
    answer = place(NEED, bench.nodes())
    assert isinstance(answer, Wait) and "not open yet" in answer.reason, "the scheduler has just been started"
    link.why_not = "this node has no runsc"
    bench._worker_changed("a")
    assert place(NEED, bench.nodes()) == Never("no node has a host for sandboxes")


async def test_a_worker_that_takes_work_and_never_ends_it_is_lost_and_then_left_alone(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.dispatch.ONE_MISHAP_S", 0.0)
    await bench._follow(cluster("a", "b"))
    actors["a"].gate.clear()
    for link in bench._pools.links["a"].values():
        link._grace_s = 0.05
    for number in range(3):
        with pytest.raises(WorkerLost, match="no answer"):
            await bench.run("a", "flights", statement(f"j{number}", timeout_s=0.01))
    assert place(Need("flights"), bench.nodes()) == Placed("b")
    assert bench.nodes().nodes["a"].pools["flights"].busy == 0


@pytest.mark.parametrize(("free_bytes", "is_full"), [(-1, False), (0, True), (LEAST_DISK_BYTES, False)])
def test_a_host_whose_disk_is_full_gets_no_work_and_says_so(free_bytes: int, is_full: bool) -> None:
    status = msgspec.structs.replace(WELL, disk_free_bytes=free_bytes)
    answer = place(NEED, [Node("a", host=view_of(status, Claims()))])
    if is_full:
        assert isinstance(answer, Wait) and "host a: its disk is full: 0 MiB are free" in answer.reason
    else:
        assert answer == Placed("a")


def test_labels_that_no_node_has_together_can_never_be_met_and_the_reason_names_them() -> None:
    host = view_of(WELL, Claims())
    nodes = [Node("a", host=host, labels={"zone": "a"}), Node("b", host=host, labels={"disk": "fast"})]
    wanted = SandboxNeed(image="base", cpus=1, memory_bytes=GIB, labels={"zone": "a", "disk": "fast"})
    answer = place(Need(sandbox=wanted), nodes)
    assert isinstance(answer, Never) and "zone=a and disk=fast together" in answer.reason


@pytest.mark.parametrize("code", ["host.full", "host.closed", "gpu.busy", "pool.closed", "pool.busy"])
def test_work_that_a_worker_handed_back_unbegun_uses_up_no_attempt(code: str) -> None:
    """Two schedulers may choose the same room; whoever comes second has not failed."""
    refused = Attempt(job_id="j", attempt_id="1-a", ending=Ending.Failed, error=ErrorInfo(code, "", retryable=True))
    again = decide(refused, 1, 1, None, None, 0.5)  # type: ignore[arg-type]
    assert isinstance(again, Again) and again.code == f"placement.{code}"
