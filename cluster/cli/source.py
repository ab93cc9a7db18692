"""The rows behind an outcome as Arrow batches with their schema. Called by `answer`.

`sandpool.results` reads and checks them in bounded memory; this only finds the schema first, which the writers of every
format need before the first row, and gives the options of a volume that the configuration registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from sandpool.outcome import Outcome
from sandpool.results import read_batches, read_table


@dataclass(frozen=True, slots=True)
class Source:
    """A result that can be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def has_rows(outcome: Outcome) -> bool:
    """Whether there is a result at all: a denied job has none, a write without RETURNING neither."""
    return bool(outcome.inline or outcome.manifest.parts)


def open_source(outcome: Outcome, options: Mapping[str, str] | None = None) -> Source:
    """The result of an outcome that `has_rows`; `options`: obstore's, to reach its volume.

    Raises ResultUnavailable, as the batches do.
    """
    batches = read_batches(outcome, options=options)
    first = next(batches, None)
    if first is None:
        return Source(read_table(outcome, options=options).schema, iter(()))
    return Source(first.schema, chain((first,), batches))
