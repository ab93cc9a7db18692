"""Lines of a batch file become jobs with stable ids, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.batch_lines import BatchLines, Malformed
from cluster.cli.slow_stream import SlowStream
from sandpool.job import SqlJob
from sandpool.wire import MAX_ENVELOPE_BYTES

numbers = st.lists(st.integers(0, 4), max_size=30)


def stream_of(values: list[int]) -> io.BytesIO:
    return io.BytesIO(b"".join(line(value) for value in values))


def line(value: int) -> bytes:
    return json.dumps({"database": "d", "sql": "select $1", "params": [value]}).encode() + b"\n"


def ids(values: list[int], run: str = "") -> list[str]:
    jobs = list(BatchLines(run=run).read(stream_of(values)))
    assert all(isinstance(job, SqlJob) for job in jobs)
    return [job.id for job in jobs if isinstance(job, SqlJob)]


@given(numbers)
def test_every_line_gets_an_id_of_its_own_and_the_same_one_again(values: list[int]) -> None:
    assert len(set(ids(values))) == len(values)
    assert ids(values) == ids(values)


@given(numbers, st.integers(0, 30), st.integers(5, 9))
def test_a_line_put_in_between_changes_no_other_id(values: list[int], place: int, new: int) -> None:
    longer = [*values[:place], new, *values[place:]]
    assert set(ids(values)) < set(ids(longer))


@given(numbers, st.randoms())
def test_the_order_of_lines_does_not_matter(values: list[int], random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert set(ids(values)) == set(ids(shuffled))


@given(numbers.filter(bool), st.text(max_size=8), st.text(max_size=8))
def test_another_run_name_shares_no_id(values: list[int], one: str, other: str) -> None:
    assert set(ids(values, one)).isdisjoint(ids(values, other)) == (one != other)


@given(st.binary(max_size=200))
def test_no_line_raises(data: bytes) -> None:
    for item in BatchLines().read(io.BytesIO(data)):
        assert isinstance(item, SqlJob | Malformed)


def test_how_soon_a_job_runs_is_no_part_of_its_id() -> None:
    lines = [{"database": "d", "sql": "select 1"}, {"database": "d", "sql": "select 1", "timeout_s": 5}]
    one, other = (next(BatchLines().read(io.BytesIO(json.dumps(each).encode()))) for each in lines)
    assert isinstance(one, SqlJob)
    assert isinstance(other, SqlJob)
    assert one.id == other.id


def test_a_line_without_end_is_skipped_without_being_held() -> None:
    endless = io.BytesIO(b"x" * (5 * MAX_ENVELOPE_BYTES) + b"\n" + line(1))
    items = list(BatchLines().read(endless))
    assert [type(item) for item in items] == [Malformed, SqlJob]


def test_a_hundred_thousand_lines_need_little_memory() -> None:
    class Endless:
        def __init__(self, lines: Iterator[bytes]) -> None:
            self.lines = lines

        def readline(self, limit: int, /) -> bytes:
            return next(self.lines, b"")

    count = 3_000
    tracemalloc.start()
    try:
        jobs = sum(1 for _ in BatchLines().read(Endless(line(i) for i in range(count))))
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert jobs == count
    assert held_bytes / count < 600


def test_a_slow_pipe_gives_lines_as_they_come_and_can_be_left() -> None:
    reading, writing = os.pipe()
    stream = SlowStream(reading)
    os.write(writing, b"one\ntw")
    assert stream.readline(100) == b"one\n"
    os.write(writing, b"o\nlong line\n")
    assert stream.readline(100) == b"two\n"
    assert stream.readline(4) == b"long"
    assert stream.readline(100) == b" line\n"
    timer = threading.Timer(0.05, stream.stop)
    timer.start()
    started_s = time.monotonic()
    assert stream.readline(100) == b""
    assert time.monotonic() - started_s < 2
    os.close(writing)
    os.close(reading)


def test_the_last_line_of_a_pipe_needs_no_line_feed() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\ntwo")
    os.close(writing)
    stream = SlowStream(reading)
    assert [stream.readline(100) for _ in range(4)] == [b"one\n", b"two", b"", b""]
    os.close(reading)
