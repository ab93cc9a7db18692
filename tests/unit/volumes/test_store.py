"""The suite of every volume on a folder (three ways of writing to it) and in memory; how URLs and options are read."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.volume_suite import VolumeSuite
from workers.errors import ConfigurationError
from workers.volumes.local import LocalVolume
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume


class TestMemoryVolume(VolumeSuite):
    @pytest.fixture
    def volume(self) -> Volume:
        return open_volume(VolumeSpec(name="results", url=f"memory:///{uuid4().hex}"))


@pytest.mark.may_block("a local create costs less than a hop to a thread: workers.volumes.local")
class TestFileVolume(VolumeSuite):
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Volume:
        return open_volume(VolumeSpec(name="results", url=(tmp_path / "volume").as_uri()))


class TestFileVolumeThatWaitsForTheDisk(VolumeSuite):
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Volume:
        return open_volume(VolumeSpec(name="results", url=(tmp_path / "v").as_uri(), options={"fsync": "true"}))


@pytest.mark.may_block("a local create costs less than a hop to a thread: workers.volumes.local")
class TestFileVolumeWithoutUnnamedFiles(VolumeSuite):
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Volume:
        volume = open_volume(VolumeSpec(name="results", url=(tmp_path / "volume").as_uri()))
        assert isinstance(volume, LocalVolume)
        # What the first create finds out on NFS.
        volume.unnamed_files = False
        return volume


def test_two_volumes_of_one_memory_url_share_their_objects() -> None:
    spec = VolumeSpec(name="results", url=f"memory:///{uuid4().hex}")
    open_volume(spec).create("t/a", b"x")
    assert open_volume(spec).get("t/a") == b"x"
    assert open_volume(VolumeSpec(name="results", url=spec.url + "-other")).get("t/a") is None


def test_a_folder_with_spaces_in_its_name_is_a_volume(tmp_path: Path) -> None:
    root = tmp_path / "my results"
    open_volume(VolumeSpec(name="results", url=root.as_uri())).create("t/a", b"x")
    assert (root / "t" / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("results", {}),
        ("ftp://host/x", {}),
        ("file://elsewhere/x", {}),
        ("file:relative", {}),
        ("file:///x?y", {}),
        ("s3://key:secret@bucket/x", {}),
        ("s3://bucket/x", {"nonsense": "1"}),
        ("s3://bucket/x", {"allow_http": "perhaps"}),
        ("s3://bucket/x", {"deadline_s": "soon"}),
        ("s3://bucket/x", {"deadline_s": "0"}),
        ("az://container/x", {}),
        ("memory:///x", {"fsync": "true"}),
    ],
)
def test_a_volume_that_cannot_be_used_is_a_configuration_error(url: str, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_volume(VolumeSpec(name="results", url=url, options=options))
    assert "results" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"fsync": "yes"}, {"sync": "true"}])
def test_a_mistyped_option_of_a_file_volume_is_an_error(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        open_volume(VolumeSpec(name="results", url=tmp_path.as_uri(), options=options))


def test_gs_volume_opens_without_any_network() -> None:
    assert open_volume(VolumeSpec(name="results", url="gs://bucket/x", options={"skip_signature": "true"})).url
