"""Volumes on a real S3 server, and proof that this server keeps the promise which everything rests on."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from sandpool.outcome import Ending, Outcome
from tests.support.s3 import S3Server
from tests.support.volume_suite import MIB, VolumeSuite
from workers.errors import VolumeUnavailable
from workers.volumes.record import create_record, read_record
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume


@pytest.fixture
def volume(s3: S3Server) -> Volume:
    """A volume of its own in the server's bucket."""
    return open_volume(VolumeSpec(name="results", url=f"{s3.url}/{uuid4().hex}", options=s3.options))


class TestS3Volume(VolumeSuite):
    @pytest.fixture
    def volume(self, volume: Volume) -> Volume:
        return volume


def test_this_server_itself_refuses_a_second_create(s3: S3Server) -> None:
    path = f"/sandpool/{uuid4().hex}"
    only_if_absent = {"If-None-Match": "*"}
    assert s3.call("PUT", path, b"first", only_if_absent)[0] == 200
    assert s3.call("PUT", path, b"second", only_if_absent)[0] == 412
    assert s3.call("GET", path) == (200, b"first")


def test_this_server_itself_lets_one_of_many_racing_creates_win(s3: S3Server) -> None:
    for _ in range(20):
        path, barrier = f"/sandpool/{uuid4().hex}", threading.Barrier(8)

        def put(racer: int, path: str = path, barrier: threading.Barrier = barrier) -> int:
            barrier.wait(10)
            return s3.call("PUT", path, b"%d" % racer * 100_000, {"If-None-Match": "*"})[0]

        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(put, range(8), timeout=60))
        assert sorted(statuses) == [200, *[412] * 7]
        assert s3.call("GET", path)[1] == b"%d" % statuses.index(200) * 100_000


def test_of_racing_endings_one_is_recorded_and_all_agree(volume: Volume) -> None:
    barrier = threading.Barrier(6)
    endings = [Ending.Succeeded, Ending.Cancelled, Ending.Lost] * 2

    def end(ending: Ending) -> Ending:
        outcome = Outcome(
            job_id="job", tenant="a/b", ending=ending, digest="d", volume="v", ended_at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        barrier.wait(10)
        return create_record(volume, outcome).ending

    with ThreadPoolExecutor(6) as threads:
        agreed = set(threads.map(end, endings, timeout=60))
    recorded = read_record(volume, "a/b", "job")
    assert recorded is not None
    assert agreed == {recorded.ending}


def test_an_aborted_upload_leaves_no_unfinished_parts_on_the_server(volume: Volume, s3: S3Server) -> None:
    writer = volume.open_writer("t/j/1-a/part-00000.parquet")
    for _ in range(20):
        writer.write(os.urandom(MIB))
    assert len(s3.unfinished_uploads("sandpool")) == 1, "20 MiB must be a multipart upload, or this proves nothing"
    writer.abort()
    assert s3.unfinished_uploads("sandpool") == []


def test_a_missing_bucket_is_never_taken_for_a_missing_object(s3: S3Server) -> None:
    volume = open_volume(VolumeSpec(name="results", url="s3://nobody-made-this", options=s3.options))
    calls = (
        lambda: volume.get("t/j/manifest.json"),
        lambda: volume.create("t/j/manifest.json", b"x"),
        lambda: list(volume.list()),
    )
    for call in calls:
        with pytest.raises(VolumeUnavailable, match="bucket"):
            call()


async def test_a_missing_bucket_shows_to_the_async_twins_too(s3: S3Server) -> None:
    volume = open_volume(VolumeSpec(name="results", url="s3://nobody-made-this", options=s3.options))
    with pytest.raises(VolumeUnavailable, match="bucket"):
        await volume.aget("t/j/manifest.json")
    with pytest.raises(VolumeUnavailable, match="bucket"):
        await volume.acreate("t/j/manifest.json", b"x")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


def _options(s3: S3Server, port: int, deadline_s: float) -> dict[str, str]:
    return s3.options | {"endpoint": f"http://127.0.0.1:{port}", "deadline_s": str(deadline_s)}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_store_that_never_answers_is_unavailable_within_the_deadline(s3: S3Server, silent_port: int) -> None:
    volume = open_volume(VolumeSpec(name="results", url=s3.url, options=_options(s3, silent_port, 2)))
    calls = (
        lambda: volume.get("t/a"),
        lambda: volume.create("t/a", b"x"),
        lambda: list(volume.list()),
        lambda: volume.delete(["t/a"]),
    )
    for call in calls:
        start = time.monotonic()
        with pytest.raises(VolumeUnavailable) as caught:
            call()
        assert time.monotonic() - start < 6
        assert "127.0.0.1" not in caught.value.message + caught.value.hint
        assert caught.value.retry


async def test_the_async_twins_keep_the_deadline_too(s3: S3Server, silent_port: int) -> None:
    volume = open_volume(VolumeSpec(name="results", url=s3.url, options=_options(s3, silent_port, 1)))
    for call in (volume.aget("t/a"), volume.acreate("t/a", b"x")):
        start = time.monotonic()
        with pytest.raises(VolumeUnavailable):
            await call
        assert time.monotonic() - start < 3


def test_a_store_that_is_down_is_unavailable(s3: S3Server) -> None:
    volume = open_volume(VolumeSpec(name="results", url=s3.url, options=_options(s3, _closed_port(), 2)))
    with pytest.raises(VolumeUnavailable):
        volume.create("t/a", b"x")
    writer = volume.open_writer("t/j/1-a/part-00000.parquet")
    with pytest.raises(VolumeUnavailable):
        writer.write(b"x" * 40 * MIB)
        writer.close()
    writer.abort()
