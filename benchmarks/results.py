"""Reads back what a peer wrote, so that no peer wins by doing less. Called after a run, outside its time.

Only for files that this benchmark's own workers wrote: never a pattern for data from a sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


class DifferentResults(Exception):
    """Two peers answered the same queries differently: their times must not be compared."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """Equal for two peers that gave the same answers. The type of `delay` (numeric) differs by peer, its value may
    not.
    """

    results: int
    rows: int
    flights: int
    delay: float

    @staticmethod
    def of(results: Iterable[Iterable[tuple[Any, Any]]]) -> Checksum:
        """From the (n, delay) pairs of every result."""
        count = rows = flights = 0
        delay = 0.0
        for result in results:
            count += 1
            for n, mean in result:
                rows += 1
                flights += n
                delay += float(mean) if mean is not None else 0.0
        return Checksum(count, rows, flights, round(delay, 2))


def read_checksum(files: Iterable[Path]) -> Checksum:
    """Of these Parquet files, one for each result."""
    return Checksum.of(_pairs(path) for path in files)


def require_equal(found: dict[str, Checksum]) -> Checksum:
    """The one checksum of all peers. Raises DifferentResults."""
    distinct = set(found.values())
    if len(distinct) != 1:
        raise DifferentResults("; ".join(f"{name}: {checksum}" for name, checksum in found.items()))
    return distinct.pop()


def _pairs(path: Path) -> list[tuple[Any, Any]]:
    table = pq.ParquetFile(path).read(columns=["n", "delay"])
    return list(zip(table["n"].to_pylist(), table["delay"].to_pylist(), strict=True))
