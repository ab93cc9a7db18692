"""Several Ray nodes on this machine for the house to stand on, each of which can be killed like a machine.

Called by `house`; the nodes themselves are `cluster.nodes_here`, a process that ends them all with itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage

START_TIMEOUT_S = 120.0
STOP_GRACE_S = 60.0
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    # A lost node is noticed within two seconds here; Ray's default, for networks, is fifteen.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
LOG = "nodes.log"


@dataclass(frozen=True, slots=True)
class RayNodes:
    """Ray nodes that run already; none: `sandpool up` starts its own."""

    address: str = "local"
    raylets: tuple[int, ...] = ()
    """A process for each node, the head first."""


@contextmanager
def ray_nodes(stage: Stage, count: int) -> Iterator[RayNodes]:
    """`count` nodes that are alive, gone when the block ends. One is none: `sandpool up` starts it."""
    if count == 1:
        yield RayNodes()
        return
    folder, log = stage.short_folder(), stage.folder / LOG
    with OwnedProcess(
        "Ray nodes",
        [sys.executable, "-m", "cluster.nodes_here", "--count", str(count), "--folder", str(folder)],
        folder=stage.folder,
        log=log,
        env={**os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(folder)},
        grace_s=STOP_GRACE_S,
        remove_if_orphaned=folder,
    ) as process:
        process.wait_until(lambda: _told(log.read_bytes()) is not None, START_TIMEOUT_S)
        told = _told(log.read_bytes())
        assert told is not None
        yield RayNodes(told["address"], tuple(node["raylet_pid"] for node in told["nodes"]))


def _told(text: bytes) -> dict[str, Any] | None:
    """What the process of the nodes has said, once it has."""
    lines = [line for line in text.splitlines() if line.startswith(b'{"address"') and line.endswith(b"}")]
    return json.loads(lines[0]) if lines else None
