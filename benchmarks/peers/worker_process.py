"""The worker program of a peer as a process that ends with us, its settings in the environment. Used by the peers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.local.process import OwnedProcess

ROOT = Path(__file__).resolve().parents[2]

BROKER_VARIABLE = "SANDPOOL_BENCH_BROKER"
DATABASE_VARIABLE = "SANDPOOL_BENCH_DATABASE"
CONNECTIONS_VARIABLE = "SANDPOOL_BENCH_CONNECTIONS"
"""Connections of one worker process."""
REDIS_VARIABLE = "SANDPOOL_BENCH_REDIS"


def worker_process(name: str, arguments: list[str], folder: Path, variables: Mapping[str, str]) -> OwnedProcess:
    """`python -m ARGUMENTS`, its output in `folder/NAME.log`."""
    environment = {
        "HOME": os.environ.get("HOME", str(folder)),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk/python/src"), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    command = [sys.executable, "-m", *arguments]
    return OwnedProcess(name, command, folder=ROOT, log=folder / f"{name}.log", env=environment)
