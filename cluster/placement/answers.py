"""The three answers of placement. Values, nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placed:
    """It runs on this node, on these GPUs of it (uuids)."""

    node: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is free now; `reason` is what `sandpool explain` shows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """No node could ever run it as the cluster is now."""

    reason: str


Answer = Placed | Wait | Never
