"""`place`: the one question that the scheduler asks. Pure.

A `sql` job needs a free slot of its database's pool; among those the least busy pool wins. A sandbox needs room on a
host; `fleet` says which is best. Ties end by name, so equal input gives equal placement.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.placement.answers import Answer, Never, Placed, Wait
from cluster.placement.fleet import Fleet
from cluster.placement.needs import Need
from cluster.placement.views import Node, PoolView

PIPELINE = 4
"""Statements that a pool may hold for each of its connections: none is idle while results and statements travel."""


def place(need: Need, nodes: Sequence[Node] | Fleet) -> Answer:
    """The node for a job with this need. Those who ask often about many nodes keep a Fleet of them."""
    if need.sandbox is not None:
        fleet = nodes if isinstance(nodes, Fleet) else Fleet(nodes)
        return fleet.place(need.sandbox)
    return _place_statement(need.database, list(nodes.nodes.values()) if isinstance(nodes, Fleet) else nodes)


def has_place(need: Need, nodes: Sequence[Node] | Fleet) -> bool:
    """Whether `place` would answer with a node."""
    if need.sandbox is None:
        return isinstance(place(need, nodes), Placed)
    fleet = nodes if isinstance(nodes, Fleet) else Fleet(nodes)
    return fleet.find(need.sandbox) is not None


def _place_statement(database: str, nodes: Sequence[Node]) -> Answer:
    able = [node for node in nodes if database in node.pools]
    if not able:
        return Never(f"no node has a pool for database {database!r}")
    willing = [node for node in able if not node.draining]
    if not willing:
        return Wait("every node with this database is draining")
    trusted = [node for node in willing if not node.avoided]
    if not trusted:
        first = min(willing, key=lambda node: node.name)
        return Wait(f"node {first.name} {first.avoided}, and no other node has this database")
    answering = [node for node in trusted if node.pools[database].answers]
    if not answering:
        return Wait(f"no pool of {database!r} answers")
    free = [node for node in answering if node.pools[database].busy < node.pools[database].slots]
    if not free:
        slots = sum(node.pools[database].slots for node in answering)
        return Wait(f"all {slots} slots of {database!r} are busy")
    best = min(free, key=lambda node: (_load(node.pools[database]), node.name))
    return Placed(best.name)


def _load(pool: PoolView) -> float:
    return pool.busy / pool.slots
