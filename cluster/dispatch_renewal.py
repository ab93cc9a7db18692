"""Renews pools and hosts node by node while work flows: `sandpool restart --workers`, from a process of its own.

A node is set aside by every scheduler, finishes what it has within a time, and its workers end; kept sandboxes are
saved before. Then the schedulers start others in their places, with the code and the settings of now, and the next node
has its turn. Called by `cluster.cli.restart`, which may be ended half-way: then the schedulers take the node back by
themselves. It never places work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
import structlog
from ray.exceptions import GetTimeoutError, RayError

from cluster import dispatch_nodes
from cluster.dispatch import NAMESPACE
from cluster.dispatch_hosts import HOST_PREFIX
from cluster.dispatch_pools import POOL_PREFIX
from cluster.errors import NotRunning
from cluster.replicas import all_of

log = structlog.get_logger("sandpool.renewal")

POLL_S = 0.2
CALL_TIMEOUT_S = 60.0
SAVE_S = 60.0
"""For the memory of a node's kept sandboxes on its way to the disk."""
CLOSE_S = 15.0
GONE_S = 15.0
START_S = 120.0
"""For a pool to connect, and a host to clear up and open, on a busy machine."""


def renew_all(count: int, within_s: float, on_state: Callable[[dict[str, str]], None]) -> None:
    """The workers of every node of `count` schedulers, one node after the other. Raises NotRunning."""
    schedulers = [_actor(who.name) for who in all_of(count)]
    for name, member in sorted(dispatch_nodes.look().items()):
        if not member.drains:
            for why in _renew(name, schedulers, within_s):
                on_state({"node": name, "state": "a kept sandbox ended", "why": why})
            on_state({"node": name, "state": "renewed"})


def _renew(name: str, schedulers: Sequence[Any], within_s: float) -> list[str]:
    """One node's; why kept sandboxes of it could not be saved."""
    longest_s = within_s + SAVE_S + CLOSE_S + GONE_S + CALL_TIMEOUT_S
    _all([scheduler.set_aside.remote(name, longest_s) for scheduler in schedulers])
    deadline = time.monotonic() + within_s
    while any(_all([scheduler.is_busy.remote(name) for scheduler in schedulers])) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    lost = _end_workers(name)
    _all([scheduler.take_back.remote(name) for scheduler in schedulers], START_S)
    deadline = time.monotonic() + START_S
    while not all(_all([scheduler.is_back.remote(name) for scheduler in schedulers])):
        if time.monotonic() > deadline:
            raise NotRunning(f"the workers of node {name} are not back {START_S:.0f} s after they were started")
        time.sleep(POLL_S)
    return lost


def _end_workers(name: str) -> list[str]:
    """Host and pools of this node, for good: a name that is free lets another one be made."""
    hosts = [actor for actor in _workers() if actor == f"{HOST_PREFIX}{name}"]
    pools = [actor for actor in _workers() if actor.startswith(POOL_PREFIX) and actor.endswith(f"@{name}")]
    try:
        lost = [why for found in _all([_actor(host).pause_kept.remote(SAVE_S) for host in hosts]) for why in found]
        # What runs still, although its time is up, is cancelled and tried again elsewhere.
        ray.wait(
            [_actor(actor).close.remote() for actor in (*hosts, *pools)],
            num_returns=len(hosts + pools),
            timeout=CLOSE_S,
        )
    except NotRunning as error:
        log.warning("workers did not end in order", node=name, error=str(error))
        lost = []
    for actor in (*hosts, *pools):
        ray.kill(_actor(actor))
    deadline = time.monotonic() + GONE_S
    while {*hosts, *pools} & _workers():
        if time.monotonic() > deadline:
            raise NotRunning(f"the workers of node {name} do not end")
        time.sleep(POLL_S)
    return lost


def _workers() -> set[str]:
    entries = ray.util.list_named_actors(all_namespaces=True)
    return {entry["name"] for entry in entries if entry["namespace"] == NAMESPACE}


def _actor(name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise NotRunning(f"{name} does not run") from error


def _all(asked: list[Any], timeout_s: float = CALL_TIMEOUT_S) -> list[Any]:
    try:
        return list(ray.get(asked, timeout=timeout_s))
    except (RayError, GetTimeoutError) as error:
        raise NotRunning(f"no answer from a worker or scheduler: {type(error).__name__}") from error
