"""What Ray says of its nodes, and what it is told about them: who is there, who drains, what more would be needed.

Called by `cluster.dispatch` (in a thread: these calls block) and by `sandpool node`. Decides nothing. Draining is Ray's
own: its autoscaler sets it before it ends a node, KubeRay's does, and so does `sandpool node drain`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ray
import ray._raylet as ray_internals
from ray._private.state import state as cluster_state
from ray.autoscaler.sdk import request_resources

from cluster.errors import NotRunning
from cluster.membership import Member, members_of

PREEMPTION = 2
"""Ray's DRAIN_NODE_REASON_PREEMPTION: accepted also while something runs there."""
REASON = "sandpool node drain"


def look() -> dict[str, Member]:
    """The nodes that are alive, by name. Raises RayError and others where Ray does not answer."""
    nodes: Any = ray.nodes  # untyped
    return members_of(nodes(), cluster_state.get_draining_nodes())


def drain(member: Member, deadline_s: float) -> None:
    """Have this node drain, for good: Ray ends it when nothing runs there. Whether a machine behind it is given back is
    the business of whoever started it. Raises NotRunning when Ray refuses."""
    address = ray.get_runtime_context().gcs_address
    client: Any = ray_internals.GcsClient(address=address)  # type: ignore[attr-defined]  # compiled, without stubs
    deadline_ms = int((time.time() + deadline_s) * 1000)
    accepted, why = client.drain_node(member.node_id, PREEMPTION, REASON, deadline_ms)
    if not accepted:
        raise NotRunning(f"Ray does not let node {member.name} drain: {why}")


def ask_for(bundles: Sequence[dict[str, float]], labels: Sequence[dict[str, str]]) -> None:
    """Have Ray's autoscaler, where there is one, make the cluster large enough for all of these together."""
    wanted: list[dict[str, Any]] = [dict(bundle) for bundle in bundles]
    request_resources(bundles=wanted, bundle_label_selectors=[dict(label) for label in labels])
