"""A file volume on real trouble: a full disk, a read-only one, one that denies, and writers killed without warning.

The disks are real small tmpfs mounts where we are root (as in CI); elsewhere a file size limit of the process stands in
for the full disk, and the kernel says the same in the same place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from workers.errors import VolumeFull, VolumeUnavailable
from workers.volumes.draft import INCOMING
from workers.volumes.local import LocalVolume
from workers.volumes.result import ResultWriter
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

MIB = 1024 * 1024
_MS_RDONLY, _MS_REMOUNT, _MNT_DETACH = 1, 32, 2
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(folder: Path, flags: int = 0) -> bool:
    """A tmpfs of 1 MiB on `folder`; False when this process may not mount."""
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, b"size=1m") == 0:
        return True
    assert ctypes.get_errno() in (errno.EPERM, errno.EACCES), os.strerror(ctypes.get_errno())
    return False


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes about 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if _mount(folder):
        yield folder
        _libc.umount2(os.fsencode(folder), _MNT_DETACH)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def volume(request: pytest.FixtureRequest, tiny: Path) -> Volume:
    volume = open_volume(VolumeSpec(name="results", url=tiny.as_uri()))
    assert isinstance(volume, LocalVolume)
    volume.unnamed_files = request.param
    return volume


def test_a_full_disk_is_volume_full_and_nothing_half_written_is_seen(volume: Volume, tiny: Path) -> None:
    assert volume.create("t/before", b"x" * 1000)
    with pytest.raises(VolumeFull) as caught:
        volume.create("t/j/1-a/part-00000.parquet", b"x" * 3 * MIB)
    assert caught.value.retry
    assert caught.value.hint
    assert str(tiny) not in str(caught.value)
    assert [meta.key for meta in volume.list()] == ["t/before"]
    assert volume.get("t/before") == b"x" * 1000
    # The space of the failed write is free again.
    assert volume.create("t/after", b"x" * 500_000)


def test_a_streamed_result_on_a_full_disk_ends_as_volume_full_and_leaves_room(volume: Volume) -> None:
    noise = [os.urandom(1000) for _ in range(1000)]
    batch = pa.RecordBatch.from_arrays([pa.array(noise)], names=["noise"])
    writer = ResultWriter(volume, "acme", "job", "1-a", batch.schema, (), row_group_bytes=100_000, part_bytes=400_000)
    with pytest.raises(VolumeFull):
        for _ in range(4):
            writer.write(batch)
        # Where only single files are limited, not the disk, parts never reach the limit.
        volume.create("t/large", b"x" * 3 * MIB)
    writer.abort()
    assert list(volume.list()) == []
    assert volume.create("t/after", b"x" * 500_000)


def test_a_read_only_disk_can_be_read_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    if not _mount(folder):
        pytest.skip("this process may not mount a read-only disk; tests/unit/volumes/test_translation.py has its error")
    try:
        volume = open_volume(VolumeSpec(name="results", url=folder.as_uri()))
        volume.create("t/a", b"x")
        assert _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", _MS_REMOUNT | _MS_RDONLY, None) == 0
        again = open_volume(VolumeSpec(name="results", url=folder.as_uri()))
        assert again.get("t/a") == b"x"
        for call in (
            lambda: again.create("t/b", b"x"),
            lambda: again.create("u/b", b"x"),
            lambda: again.delete(["t/a"]),
        ):
            with pytest.raises(VolumeUnavailable, match="read-only"):
                call()
    finally:
        _libc.umount2(os.fsencode(folder), _MNT_DETACH)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_folder_that_is_not_ours_is_permission_denied(reachable: Path) -> None:
    root = reachable / "volume"
    (root / "t").mkdir(parents=True)
    (root / "t" / "secret").write_bytes(b"x")
    (root / "t" / "secret").chmod(0)
    (root / "t").chmod(0o555)
    code = """if True:
        import os, sys
        from workers.errors import VolumeUnavailable
        from workers.volumes.spec import VolumeSpec
        from workers.volumes.store import open_volume
        volume = open_volume(VolumeSpec(name="results", url=sys.argv[1]))
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        calls = {
            "create": lambda: volume.create("t/a", b"x"),
            "create in a new folder": lambda: volume.create("t/j/a", b"x"),
            "get": lambda: volume.get("t/secret"),
        }
        for name, call in calls.items():
            try:
                call()
            except VolumeUnavailable as error:
                assert "permission" in error.message, error
                assert sys.argv[1] not in error.message + error.hint
            else:
                raise SystemExit(name + " was allowed")
    """
    run = subprocess.run([sys.executable, "-c", code, root.as_uri()], capture_output=True, text=True, timeout=60)
    (root / "t").chmod(0o755)
    assert run.returncode == 0, run.stderr


_WRITE_FOR_EVER = """if True:
    import itertools, os, sys
    from workers.volumes.spec import VolumeSpec
    from workers.volumes.store import open_volume
    volume = open_volume(VolumeSpec(name="results", url=sys.argv[1]))
    volume.unnamed_files = sys.argv[2] == "unnamed"
    for number in itertools.count():
        writer = volume.open_writer(f"t/{number}/1-a/part-00000.parquet")
        for _ in range(50):
            writer.write(b"%09d" % number * 1000)
        writer.close()
        volume.create(f"t/{number}/manifest.json", b"%09d" % number)
        os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize("mode", ["unnamed", "named"])
def test_what_was_created_survives_sigkill_and_nothing_else_is_seen(tmp_path: Path, mode: str) -> None:
    root = tmp_path / "volume"
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITE_FOR_EVER, root.as_uri(), mode], stdout=subprocess.PIPE, bufsize=0
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            reported = process.stdout.read().splitlines()
        volume = open_volume(VolumeSpec(name="results", url=root.as_uri()))
        for line in [b"0", *reported]:
            number = int(line)
            assert volume.get(f"t/{number}/manifest.json") == b"%09d" % number
            assert volume.get(f"t/{number}/1-a/part-00000.parquet") == b"%09d" % number * 50_000
        for meta in volume.list():
            assert meta.size_bytes in (9, 450_000), f"{meta.key} is half-written"
        leftovers = list((root / INCOMING).glob("*")) if (root / INCOMING).exists() else []
        assert len(leftovers) <= (1 if mode == "named" else 0)
        for leftover in leftovers:
            os.utime(leftover, (1, 1))
        volume = open_volume(VolumeSpec(name="results", url=root.as_uri()))
        assert not [path for path in root.rglob("*") if INCOMING in path.parts and path.is_file()]
        volume.delete([meta.key for meta in volume.list()])
