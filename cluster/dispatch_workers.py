"""Starts, or finds, a long-lived actor of ours on one node. Called by `dispatch_pools` and `dispatch_hosts`."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.membership import Member


def start_worker(kind: type, name: str, namespace: str, member: Member, *args: Any) -> Any:
    """The actor of this name. Detached: it outlives a scheduler that is restarted, and is found again by its name."""
    return (
        ray.remote(kind)
        .options(
            name=name,
            namespace=namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=1000,
            scheduling_strategy=NodeAffinitySchedulingStrategy(member.node_id, soft=False),
        )
        .remote(*args, own_process=True)
    )


def is_near(member: Member) -> bool:
    """Whether this is the node that we run on."""
    return bool(member.node_id == ray.get_runtime_context().get_node_id())
