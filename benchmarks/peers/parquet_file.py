"""How the peers write a result: one Parquet file (zstd), whole under its name or not there at all. Runs in their
workers.

Columns go in as Python lists, which is the fastest way from driver rows to Arrow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("carrier", "n", "delay")


def write_result(rows: Sequence[Sequence[Any]], folder: str, number: int) -> int:
    """Write rows of (carrier, n, delay); returns how many. Atomic by rename, as ours: no fsync in either."""
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else ((), (), ())
    table = pa.table(dict(zip(NAMES, (list(column) for column in columns), strict=True)))
    final = Path(folder, f"{number:06d}.parquet")
    scratch = final.with_suffix(".tmp")
    pq.write_table(table, scratch, compression="zstd")
    os.replace(scratch, final)
    return len(rows)
