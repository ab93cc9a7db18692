"""`sandpool image`: what it prints, on images that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cluster.cli.image import image
from tests.support.oci import Member, write_archive
from workers.images.errors import ArchiveInvalid, RecipeInvalid, UnknownImage
from workers.images.store import BuiltImage, ImageStore, now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = ImageStore(tmp_path / "images")
    for version in ("a", "b"):
        with store.draft() as draft:
            (draft / "rootfs").mkdir()
            built = BuiltImage(
                name="data",
                digest=version * 64,
                description="made up",
                built_at=now(),
                origin="recipe",
                size_bytes=5 << 20,
                content="c" * 64,
                uid=10_000,
                home="/home/sandpool",
                debian_packages={"python3": "3.11"},
            )
            store.publish(draft, built)
    return tmp_path / "images"


def call(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(image, [*arguments, "--folder", str(folder)])


def test_the_list_marks_what_the_plain_name_means(folder: Path) -> None:
    shown = call(folder, "list").stdout
    assert "data@aaaaaaaaaaaa" in shown
    assert any("*" in line and "data@bbbbbbbbbbbb" in line for line in shown.splitlines())


def test_the_list_is_json_when_asked(folder: Path) -> None:
    listed = json.loads(call(folder, "list", "--json").stdout)
    assert {one["digest"] for one in listed} == {"a" * 64, "b" * 64}
    assert listed[0]["name"] == "data"


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    assert call(tmp_path / "none", "list").stdout == ""
    assert json.loads(call(tmp_path / "none", "list", "--json").stdout) == []


def test_inspect_shows_the_packages(folder: Path) -> None:
    for arguments in (("inspect", "data"), ("inspect", "data@aaaaaa", "--json")):
        assert json.loads(call(folder, *arguments).stdout)["debian_packages"] == {"python3": "3.11"}


def test_prune_says_what_goes_and_removes_it(folder: Path) -> None:
    assert "data@aaaaaaaaaaaa" in call(folder, "prune", "--dry-run").stdout
    assert [one["digest"] for one in json.loads(call(folder, "prune", "--json").stdout)] == ["a" * 64]
    assert [built.digest for built in ImageStore(folder).list_all()] == ["b" * 64]


def test_errors_are_left_to_the_group_above(folder: Path, tmp_path: Path) -> None:
    assert isinstance(call(folder, "inspect", "absent").exception, UnknownImage)
    assert isinstance(call(folder, "build", "x", "--recipes", str(tmp_path)).exception, RecipeInvalid)
    assert isinstance(call(folder, "import", str(tmp_path / "absent.tar"), "name").exception, ArchiveInvalid)


def test_a_limit_that_is_no_number_is_wrong_use(folder: Path, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]])
    result = call(folder, "import", str(path), "name", "--limit", "cpus=many")
    assert result.exit_code == 2
    assert "KEY=NUMBER" in result.output
