"""What every volume must do, whatever stands behind it. Subclasses give the `volume` fixture and inherit the tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.errors import VolumeCorrupt
from workers.volumes.keys import UnsafeName
from workers.volumes.store import Volume

MIB = 1024 * 1024
UNSAFE = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    "a/../b",
    "a/./b",
    ".incoming/x",
    "a/.b",
    "a\\b",
    "a\0b",
    "ä",
    "a b",
    "a%2Fb",
    "a~b",
    "x" * 300,
]


class VolumeSuite:
    @pytest.fixture
    def volume(self) -> Volume:
        raise NotImplementedError

    def test_an_object_comes_back_as_it_was_put(self, volume: Volume) -> None:
        assert volume.create("t/j/manifest.json", b"\x00{}\xff")
        assert volume.get("t/j/manifest.json") == b"\x00{}\xff"

    def test_an_empty_object_is_an_object(self, volume: Volume) -> None:
        assert volume.create("t/empty", b"")
        assert volume.get("t/empty") == b""

    def test_what_was_never_put_is_none(self, volume: Volume) -> None:
        assert volume.get("t/j/manifest.json") is None
        assert volume.get("nobody/was/here/ever") is None

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB + 7, 17 * MIB])
    def test_an_object_is_fetched_piece_by_piece(self, volume: Volume, size: int) -> None:
        data = bytes(range(256)) * (size // 256 + 1)
        assert volume.create("t/large", data[:size])
        pieces: list[bytes] = []
        assert volume.fetch("t/large", pieces.append) == size
        assert b"".join(pieces) == data[:size]
        assert max(map(len, pieces), default=0) <= 8 * MIB

    def test_fetching_what_is_not_there_writes_nothing(self, volume: Volume) -> None:
        assert volume.fetch("t/nothing", pytest.fail) is None
        with pytest.raises(UnsafeName):
            volume.fetch("../etc/passwd", pytest.fail)

    def test_what_the_receiver_raises_ends_a_fetch(self, volume: Volume) -> None:
        def refuse(piece: bytes) -> None:
            raise OverflowError(len(piece))

        assert volume.create("t/refused", b"data")
        with pytest.raises(OverflowError):
            volume.fetch("t/refused", refuse)

    def test_a_second_create_changes_nothing_and_says_so(self, volume: Volume) -> None:
        assert volume.create("t/once", b"first")
        assert not volume.create("t/once", b"second")
        assert volume.get("t/once") == b"first"

    def test_of_many_racing_creates_exactly_one_wins(self, volume: Volume) -> None:
        for number in range(10):
            key = f"t/race-{number}/manifest.json"
            made = _race([partial(volume.create, key, b"%d" % racer * 2000) for racer in range(6)])
            assert made.count(True) == 1
            assert volume.get(key) == b"%d" % made.index(True) * 2000

    async def test_the_async_twins_do_the_same(self, volume: Volume) -> None:
        made = await asyncio.gather(*(volume.acreate("t/async", b"%d" % racer) for racer in range(8)))
        assert made.count(True) == 1
        assert await volume.aget("t/async") == b"%d" % made.index(True)
        assert await volume.aget("t/nothing") is None
        with pytest.raises(VolumeCorrupt):
            await volume.aget("t/async", limit_bytes=0)

    def test_an_object_above_the_callers_limit_is_refused(self, volume: Volume) -> None:
        volume.create("t/big", b"x" * 1001)
        assert volume.get("t/big", limit_bytes=1001) is not None
        with pytest.raises(VolumeCorrupt):
            volume.get("t/big", limit_bytes=1000)

    @pytest.mark.parametrize("key", UNSAFE)
    def test_an_unsafe_key_is_refused_by_every_call(self, volume: Volume, key: str) -> None:
        for call in (volume.get, volume.open_writer, lambda k: volume.create(k, b"x"), lambda k: volume.delete([k])):
            with pytest.raises(UnsafeName):
                call(key)
        with pytest.raises(UnsafeName):
            volume.list(key + "/")
        assert list(volume.list()) == []

    def test_a_prefix_that_is_no_folder_is_refused(self, volume: Volume) -> None:
        with pytest.raises(UnsafeName):
            volume.list("t")

    def test_deleting_removes_and_ignores_the_missing(self, volume: Volume) -> None:
        for key in ("t/a/1", "t/a/2", "t/b/1"):
            volume.create(key, b"x")
        volume.delete(["t/a/1", "t/never", "t/b/1", "t/a/1"])
        assert [meta.key for meta in volume.list()] == ["t/a/2"]
        assert volume.create("t/a/1", b"again")

    def test_a_listing_says_size_and_age(self, volume: Volume) -> None:
        volume.create("t/j/manifest.json", b"12345")
        (meta,) = volume.list("t/")
        assert (meta.key, meta.size_bytes) == ("t/j/manifest.json", 5)
        assert abs(datetime.now(UTC) - meta.modified_at) < timedelta(minutes=1)

    def test_listings_are_in_byte_order_of_whole_keys(self, volume: Volume) -> None:
        keys = ["t/a-b/x", "t/a/x", "t/a!2F/x", "t/a.b", "t/a0", "t/a/1-x/p", "t/B/x", "u/a"]
        for key in keys:
            volume.create(key, b"")
        assert [meta.key for meta in volume.list()] == sorted(keys)
        assert [meta.key for meta in volume.list("t/a/")] == ["t/a/1-x/p", "t/a/x"]
        assert [meta.key for meta in volume.list("t/a-/")] == []
        for start in [*keys, "t/a/", "t/a/0", "a", "t/zz", "z", "t/a0"]:
            assert [meta.key for meta in volume.list(start_after=start)] == [k for k in sorted(keys) if k > start]

    def test_a_written_object_appears_whole_when_it_is_closed(self, volume: Volume) -> None:
        writer = volume.open_writer("t/j/1-a/part-00000.parquet")
        chunk = bytes(range(256)) * 4096
        for _ in range(20):
            assert writer.write(chunk) == len(chunk)
        assert volume.get("t/j/1-a/part-00000.parquet") is None
        assert list(volume.list()) == []
        writer.close()
        assert volume.get("t/j/1-a/part-00000.parquet") == chunk * 20
        writer.abort()
        assert volume.get("t/j/1-a/part-00000.parquet") is not None

    @pytest.mark.parametrize("mib", [0, 1, 20])
    def test_an_aborted_write_leaves_nothing(self, volume: Volume, mib: int) -> None:
        writer = volume.open_writer("t/j/1-a/part-00000.parquet")
        for _ in range(mib):
            writer.write(b"x" * MIB)
        writer.abort()
        writer.abort()
        assert list(volume.list()) == []
        assert volume.create("t/j/1-a/part-00000.parquet", b"free")

    @settings(
        max_examples=min(25, settings.default.max_examples),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["create", "delete"]),
                st.sampled_from(["a", "a-b", "a.b", "b!2F"]),
                st.sampled_from(["m", "1/p", "1-x/p"]),
            ),
            max_size=12,
        )
    )
    def test_any_history_leaves_what_a_dictionary_would(
        self, volume: Volume, steps: list[tuple[str, str, str]]
    ) -> None:
        volume.delete([meta.key for meta in volume.list("model/")])
        model: dict[str, bytes] = {}
        for number, (action, job, leaf) in enumerate(steps):
            key, data = f"model/{job}/{leaf}", b"%d" % number
            if action == "create":
                assert volume.create(key, data) == (key not in model)
                model.setdefault(key, data)
            else:
                volume.delete([key])
                model.pop(key, None)
        assert {meta.key: volume.get(meta.key) for meta in volume.list("model/")} == model
        assert [meta.key for meta in volume.list("model/")] == sorted(model)


def _race(calls: Sequence[Callable[[], bool]]) -> list[bool]:
    """Results of calls that all start at the same moment, each in its thread."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], bool]) -> bool:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls, timeout=60))
