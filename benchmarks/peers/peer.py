"""What every competitor of the job benchmarks can do, ours included: start, do these calls, stop. Types only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.results import Checksum
from benchmarks.workload import Call

TIMEOUT_S = 60.0
"""Longest wait for one result, a start or a stop: above it the peer is broken, not slow."""


class PeerFailed(Exception):
    """A peer did not start, did not answer, or answered with an error. Ends the benchmark."""


@dataclass(slots=True)
class Run:
    """What one run of a peer took, seen by the submitter."""

    wall_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    """Of each call, from its submission to its result in the submitter's hands."""


class Peer(Protocol):
    name: str
    results: str
    """How results reach the submitter, in a few words."""

    def start(self) -> None:
        """Bring the workers up, ready for calls."""

    def run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:
        """Do all calls with at most `in_flight` submitted and not answered, results as Parquet below `folder`."""

    def checksum(self, folder: Path) -> Checksum:
        """Of the results of the last run, after it."""

    def stop(self) -> None:
        """End the workers. Safe after a failed start."""
