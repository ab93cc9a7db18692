"""Inputs on their way from a volume into the folder that a sandbox sees: names, bounds, and what may not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.databases import variables
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.jobs.errors import InputMissing
from workers.sandbox.jobs.staging import stage
from workers.sandbox.task import DatabaseFile, Input
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume


@pytest.fixture
def volume(request: pytest.FixtureRequest) -> Volume:
    volume = open_volume(VolumeSpec(name="sets", url=f"memory:///{request.node.name}"))
    for key in (
        "s/a.parquet",
        "s/b/1.parquet",
        "s/b/notes.txt",
        "s/c/d/e.parquet",
        "s/notes.txt",
        "s/x.parquet.key",
        "n/x.txt",
    ):
        volume.create(key, key.encode())
    return volume


async def test_only_what_is_a_table_of_a_folder_is_brought(volume: Volume, tmp_path: Path) -> None:
    await stage([Input("databases/s", "sets", "s/", tables_only=True)], {"sets": volume}, tmp_path, 1 << 20)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["databases/s/a.parquet", "databases/s/b/1.parquet"]
    with pytest.raises(InputMissing):
        await stage([Input("c", "sets", "n/", tables_only=True)], {"sets": volume}, tmp_path / "c", 1)
    await stage([Input("all", "sets", "s/")], {"sets": volume}, tmp_path, 1 << 20)
    assert sum(path.is_file() for path in (tmp_path / "all").rglob("*")) == 6


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a", "a/b/c"), ("a/b", "a")])
async def test_two_inputs_in_each_others_place_are_a_wrong_job_and_no_fault_of_the_disk(
    volume: Volume, tmp_path: Path, paths: tuple[str, str]
) -> None:
    with pytest.raises(SpecInvalid, match="two inputs"):
        await stage([Input(path, "sets", "s/a.parquet") for path in paths], {"sets": volume}, tmp_path, 1 << 20)


def test_files_are_named_beside_databases_and_bring_no_way_to_a_server() -> None:
    file = DatabaseFile("lite", "sqlite", Input("databases/lite/f.sqlite", "sets", "f.sqlite"))
    alone = variables((), (file,))
    assert set(alone) == {"SANDPOOL_DATABASES", "SANDPOOL_DATABASE_FILES"}
    both = variables(("flights",), (file,))
    assert both["PGDATABASE"] == both["SANDPOOL_DATABASES"] == "flights" and "lite" in both["SANDPOOL_DATABASE_FILES"]
    assert variables(()) == {}
