"""Where does a job run? Pure: (what it needs, the hosts as data) -> a host, wait, or never with the reason.

A `sql` job needs a pool of its database with a free slot. Among those the least busy one wins, ties by name, so equal
input gives equal placement. GPUs, memory and labels join `Need` and `Node` when sandboxes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PIPELINE = 4
"""Statements that a pool may hold for each of its connections: none is idle while results and statements travel."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a job asks of the node it runs on."""

    database: str


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as the scheduler sees it: `slots` statements may be there at once, `busy` are."""

    slots: int
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster, as data."""

    name: str
    pools: Mapping[str, PoolView] = field(default_factory=dict)
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    node: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is free now; `reason` is what `sandpool explain` shows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """No node could ever run it as the cluster is now."""

    reason: str


def place(need: Need, nodes: Sequence[Node]) -> Placed | Wait | Never:
    """The node for a job with this need."""
    able = [node for node in nodes if need.database in node.pools]
    if not able:
        return Never(f"no node has a pool for database {need.database!r}")
    willing = [node for node in able if not node.draining]
    if not willing:
        return Wait("every node with this database is draining")
    free = [node for node in willing if node.pools[need.database].busy < node.pools[need.database].slots]
    if not free:
        slots = sum(node.pools[need.database].slots for node in willing)
        return Wait(f"all {slots} slots of {need.database!r} are busy")
    best = min(free, key=lambda node: (_load(node.pools[need.database]), node.name))
    return Placed(best.name)


def _load(pool: PoolView) -> float:
    return pool.busy / pool.slots
