"""Batches on their way from a reading thread to a writing one: stopped at any moment, nothing passes for complete."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pyarrow as pa
import pytest

from tests.support.pools import statement
from workers.sql.pump import Pump, Stopped
from workers.sql.results import ResultStream
from workers.sql.types import ColumnPlan, Kind
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

PLANS = [ColumnPlan("n", "int8", Kind.PLAIN, pa.int64())]
BATCH = pa.RecordBatch.from_arrays([pa.array(range(1000))], names=["n"])
BATCHES = 5


@pytest.fixture
def volume() -> Volume:
    return open_volume(VolumeSpec(name="results", url=f"memory:///{uuid4().hex}"))


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize("before", range(BATCHES + 1))
def test_what_was_stopped_says_so_and_leaves_nothing(volume: Volume, executor: ThreadPoolExecutor, before: int) -> None:
    stopped = threading.Event()

    def read() -> Iterator[pa.RecordBatch]:
        for number in range(BATCHES):
            if number == before:
                stopped.set()
            yield BATCH
        stopped.set()

    stream = ResultStream(volume, statement("SELECT n"), PLANS)
    with pytest.raises(Stopped):
        Pump(PLANS, stream, stopped).run(executor, read(), lambda: None)
    assert list(volume.list("")) == []


def test_what_was_read_to_its_end_is_whole(volume: Volume, executor: ThreadPoolExecutor) -> None:
    stream = ResultStream(volume, statement("SELECT n"), PLANS)
    delivered = Pump(PLANS, stream, threading.Event()).run(executor, iter([BATCH] * BATCHES), lambda: None)
    assert delivered.manifest.rows == BATCHES * BATCH.num_rows
