"""What processes cost: CPU seconds and resident memory of whole process trees, read from /proc.

Used by the benchmarks around each measured run. CPU seconds matter more than wall time on a shared machine. Linux only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FIRST_FIELD = 3
"""`/proc/PID/stat` counts its fields from 1; after the name in parentheses comes the third."""


class PeakMemory:
    """Highest resident memory of one process tree while the block runs, sampled; `size_bytes` afterwards."""

    def __init__(self, root: int, every_s: float = 0.02) -> None:
        self.size_bytes = 0
        self.before_bytes = 0
        self._root = root
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self.before_bytes = self.size_bytes = resident_bytes(tree([self._root]))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self.size_bytes = max(self.size_bytes, resident_bytes(tree([self._root])))


def tree(roots: Iterable[int]) -> list[int]:
    """`roots` and all their living descendants."""
    below: dict[int, list[int]] = {}
    for pid in _all_pids():
        stat = _stat(pid)
        if stat is not None:
            below.setdefault(int(stat[4 - FIRST_FIELD]), []).append(pid)
    found: list[int] = []
    frontier = list(roots)
    while frontier:
        found += frontier
        frontier = [child for parent in frontier for child in below.get(parent, ())]
    return found


def children(root: int) -> set[int]:
    """Direct children only."""
    return {pid for pid in _all_pids() if (stat := _stat(pid)) is not None and int(stat[4 - FIRST_FIELD]) == root}


def cpu_s(pids: Iterable[int], *, children_too: bool = True) -> float:
    """User and system seconds of these processes and of those of their children that they have reaped.

    Over a tree this never falls while its processes come and go, as long as every parent reaps its own.
    """
    last = 18 if children_too else 16  # utime stime cutime cstime are the fields 14 to 17
    total = 0
    for pid in pids:
        stat = _stat(pid)
        if stat is not None:
            total += sum(int(field) for field in stat[14 - FIRST_FIELD : last - FIRST_FIELD])
    return total / TICKS_PER_S


def own_cpu_s() -> float:
    """CPU seconds of this process alone, all its threads, without children."""
    times = os.times()
    return times.user + times.system


def resident_bytes(pids: Iterable[int]) -> int:
    """Sum of the resident memory of these processes; pages that they share count once for each."""
    return sum(int(stat[24 - FIRST_FIELD]) * PAGE_BYTES for pid in pids if (stat := _stat(pid)) is not None)


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _stat(pid: int) -> list[bytes] | None:
    try:
        raw = Path("/proc", str(pid), "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None  # ended between the listing and the read
    return raw[raw.rindex(b")") + 2 :].split()  # the name in parentheses may hold spaces
