"""Several Ray nodes on this one machine, for the demo and for tests: `python -m cluster.nodes_here --count 3 ...`.

Prints one line of JSON with the cluster's address and the process of each node's raylet, and runs until SIGTERM or
SIGINT. Ending one raylet is what a lost machine looks like to all others. No part of a real cluster:
there `ray start` or KubeRay makes the nodes. Start it with RAY_AUTH_MODE=token, and with RAY_TMPDIR set to `--folder`:
Ray also leaves a note of the latest cluster there, else in a folder of the whole machine.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from cluster.node_token import secure_token

STORE_BYTES = 100 << 20
"""Shared memory of each node; Sandpool's results do not travel through it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.nodes_here", description=__doc__.split(":")[0])
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--folder", required=True, help="short: Ray makes sockets below it")
    parser.add_argument("--label", action="append", default=[], metavar="N:KEY=VALUE", help="a Ray label of node N")
    wanted = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    secure_token()
    cluster = start(wanted.count, wanted.cpus, wanted.folder, labels_by_node(wanted.label))
    try:
        nodes = [cluster.head_node, *cluster.worker_nodes]
        told = [{"node_id": node.node_id, "raylet_pid": raylet_pid(node)} for node in nodes]
        sys.stdout.write(json.dumps({"address": cluster.address, "nodes": told}) + "\n")
        sys.stdout.flush()
        stop.wait()
    finally:
        cluster.shutdown()
    return 0


def labels_by_node(given: list[str]) -> dict[int, dict[str, str]]:
    """`1:zone=a` -> {1: {"zone": "a"}}."""
    labels: dict[int, dict[str, str]] = {}
    for text in given:
        number, _, label = text.partition(":")
        key, _, value = label.partition("=")
        labels.setdefault(int(number), {})[key] = value
    return labels


def start(count: int, cpus: int, folder: str, labels: dict[int, dict[str, str]]) -> Any:
    """The cluster, all nodes alive."""
    common: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
    temp = Path(folder) / "ray"
    temp.mkdir(exist_ok=True)
    head: dict[str, Any] = {"include_dashboard": False, "temp_dir": str(temp), "labels": labels.get(0, {}), **common}
    # As `sandpool up` starts its own Ray: its workers would else run below everything else on this machine.
    head["_system_config"] = {"worker_niceness": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for number in range(1, count):
        cluster.add_node(labels=labels.get(number, {}), **common)
    return cluster


def raylet_pid(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


if __name__ == "__main__":
    sys.exit(main())
