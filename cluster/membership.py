"""Which nodes the cluster has, what may run on each, and how a database's connections are divided between them. Pure.

Called by `cluster.dispatch` with what Ray says of its nodes. A node's roles come from its Ray label `sandpool.role`,
several joined by dots (`cpu.db-egress`); a node without the label has all of them:

    cpu         jobs in sandboxes
    gpu         jobs in sandboxes that ask for a GPU; where a node has this role and not `cpu`, no others
    db-egress   pools of databases which are pinned to such nodes, whose addresses a database's firewall lists
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLE_LABEL = "sandpool.role"
HEAD_RESOURCE = "node:__internal_head__"
ROLES = frozenset({"cpu", "gpu", "db-egress"})


@dataclass(frozen=True, slots=True)
class Member:
    """One node that is alive."""

    name: str
    """Unique and the same for as long as the node lives: host name and the beginning of Ray's id."""
    node_id: str
    machine: str
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: frozenset[str] = ROLES
    drains: bool = False
    """It gets no new work and goes when it has none."""
    drain_by_s: float = 0.0
    """Unix time at which it goes anyway; 0: it has as long as it takes."""
    is_head: bool = False
    """Ray's own services live there: without it there is no cluster."""

    @property
    def hosts(self) -> bool:
        """Whether sandboxes may run there."""
        return bool(self.roles & {"cpu", "gpu"})


def members_of(nodes: Iterable[Mapping[str, Any]], draining_ms: Mapping[str, int] | None = None) -> dict[str, Member]:
    """The nodes that are alive, of what `ray.nodes()` says. `draining_ms`: Ray's id -> deadline, 0 for none."""
    draining_ms = draining_ms or {}
    found = {}
    for node in nodes:
        if node.get("Alive"):
            node_id, machine = str(node["NodeID"]), str(node.get("NodeManagerHostname", ""))
            name = f"{machine}-{node_id[:8]}"
            labels = {str(key): str(value) for key, value in (node.get("Labels") or {}).items()}
            drains, by_s = node_id in draining_ms, draining_ms.get(node_id, 0) / 1000
            head = HEAD_RESOURCE in (node.get("Resources") or {})
            found[name] = Member(name, node_id, machine, labels, roles_of(labels), drains, by_s, head)
    return found


def roles_of(labels: Mapping[str, str]) -> frozenset[str]:
    """What a node may do. A role that nobody knows is none; a node left with none does nothing, which is seen."""
    said = labels.get(ROLE_LABEL)
    return ROLES if said is None else frozenset(said.split(".")) & ROLES


def shares(budget: int, pinned: bool, members: Iterable[Member]) -> dict[str, int]:
    """Connections of one database for the pool of each node: together never more than the budget.

    A node whose share would be none has no pool. `pinned`: only nodes with the role `db-egress` count; others have
    pools too as long as they may run anything (a node with no role at all has none).
    """
    able = sorted(member.name for member in members if ("db-egress" in member.roles if pinned else member.roles))
    if not able:
        return {}
    each, more = divmod(budget, len(able))
    sized = {name: each + (index < more) for index, name in enumerate(able)}
    return {name: size for name, size in sized.items() if size}


def seats(taken: Mapping[str, tuple[str, int]], members: Iterable[Member]) -> dict[str, int]:
    """A number for each new node among those of its machine, the lowest that is free: nodes of one machine keep apart
    by it what lies on its disk. `taken`: name -> (machine, number) of those that have one."""
    used = {(machine, number) for machine, number in taken.values()}
    given = {}
    for member in sorted(members, key=lambda member: member.name):
        if member.name not in taken:
            number = next(number for number in range(len(used) + 1) if (member.machine, number) not in used)
            used.add((member.machine, number))
            given[member.name] = number
    return given
