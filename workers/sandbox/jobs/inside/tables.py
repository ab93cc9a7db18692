"""Inside: a table as Parquet, with ceilings on rows and bytes, and a description of it beside it.

Sent by `programs`; the host reads `result.parquet` as opaque bytes and `result.json` by a closed schema.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = "/home/sandpool/.sandpool"
MAX_BATCH_ROWS = 65_536


def load(folder: str) -> pa.Table:
    """Every Parquet file of the folder as one table, in the order of their names."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".parquet"))
    return pa.concat_tables([pq.read_table(os.path.join(folder, name)) for name in names])


def table_of(result: Any) -> pa.Table:
    """What code left as `result`, as a table. Raises TypeError for what is none."""
    if isinstance(result, pa.RecordBatch):
        return pa.Table.from_batches([result])
    if isinstance(result, pa.Table):
        return result
    if hasattr(result, "to_frame") and not hasattr(result, "columns"):
        result = result.to_frame().reset_index()  # a pandas Series
    if type(result).__module__.startswith("pandas"):
        named = any(name is not None for name in result.index.names)
        return pa.Table.from_pandas(result.reset_index() if named else result, preserve_index=False)
    if hasattr(result, "__arrow_c_stream__"):
        return pa.table(result)
    if isinstance(result, dict):
        return pa.table(result)
    if isinstance(result, list) and all(isinstance(row, dict) for row in result):
        return pa.Table.from_pylist(result)
    raise TypeError(f"result is a {type(result).__name__}; leave a table: pyarrow, pandas, polars, or a list of dicts")


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], max_rows: int, max_bytes: int) -> None:
    """Write the batches until a ceiling is reached. Nothing of the metadata that a library adds is kept."""
    schema = pa.schema([pa.field(field.name, field.type, field.nullable) for field in schema])
    os.makedirs(FOLDER, exist_ok=True)
    rows, size_bytes, partial = 0, 0, False
    with pq.ParquetWriter(f"{FOLDER}/result.parquet", schema, compression="zstd", compression_level=1) as writer:
        for batch in _slices(batches):
            if rows + batch.num_rows > max_rows:
                batch, partial = batch.slice(0, max_rows - rows), True
            if size_bytes + batch.nbytes > max_bytes:
                fitting = int(batch.num_rows * max(0, max_bytes - size_bytes) / max(1, batch.nbytes))
                batch, partial = batch.slice(0, fitting), True
            rows, size_bytes = rows + batch.num_rows, size_bytes + batch.nbytes
            if batch.num_rows:
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
            if partial:
                break
    columns = [{"name": field.name, "arrow_type": str(field.type)} for field in schema]
    with open(f"{FOLDER}/result.json", "w", encoding="utf-8") as file:
        json.dump({"columns": columns, "rows": rows, "partial": partial}, file)


def write_result(result: Any, max_rows: int, max_bytes: int) -> None:
    """What code left as `result`."""
    table = table_of(result)
    write(table.schema, table.to_batches(), max_rows, max_bytes)


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, MAX_BATCH_ROWS):
            yield batch.slice(start, MAX_BATCH_ROWS)
