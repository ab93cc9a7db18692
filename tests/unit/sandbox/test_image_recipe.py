"""image.toml: what it may say, and the version that follows from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.images.errors import RecipeInvalid
from workers.images.recipe import load, locked_pins, normalise, parse

ROOT = Path(__file__).resolve().parents[3]
HASH = "--hash=sha256:" + "0" * 64
LOCK = (
    f"numpy==2.4.6 \\\n    {HASH}\npsycopg-binary==3.3.9 \\\n    {HASH} \\\n    {HASH}\npsycopg[binary]==3.3.9 {HASH}\n"
)
RAW: dict[str, Any] = {
    "name": "data",
    "description": "text",
    "base": {"suite": "bookworm", "packages": ["python3", "curl"]},
    "python": {"version": "3.11", "packages": ["numpy==2.4.6"], "warm_imports": ["numpy.linalg"]},
    "env": {"A": "1"},
    "limits": {"memory_bytes": 1 << 30, "cpus": 2},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    place = raw
    *folders, last = path.split(".")
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return raw


@pytest.mark.parametrize("name", ["base", "data", "node"])
def test_the_shipped_recipes_are_valid(name: str) -> None:
    recipe = load(ROOT / "images" / name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.limits


def test_the_same_inputs_have_the_same_version() -> None:
    reordered = dict(reversed(list(copy.deepcopy(RAW).items())))
    reordered["base"]["packages"] = ["curl", "python3", "curl"]
    assert parse(reordered, f"# a comment\n\n{LOCK}").digest() == parse(RAW, LOCK).digest()


def test_a_description_does_not_change_the_version() -> None:
    assert parse(changed("description", "other"), LOCK).digest() == parse(RAW, LOCK).digest()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("base.suite", "trixie"),
        ("base.packages", ["python3"]),
        ("python.warm_imports", []),
        ("env.A", "2"),
        ("limits.cpus", 3),
        ("user.uid", 10_001),
    ],
)
def test_whatever_reaches_a_sandbox_changes_the_version(path: str, value: Any) -> None:
    assert parse(changed(path, value), LOCK).digest() != parse(RAW, LOCK).digest()


def test_another_lock_is_another_version_on_the_same_debian_layer() -> None:
    one, other = parse(RAW, LOCK), parse(RAW, LOCK.replace("0" * 64, "1" * 64))
    assert one.digest() != other.digest()
    assert one.base_digest() == other.base_digest()


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("name", "../etc", "name"),
        ("name", 1, "name"),
        ("surprise", 1, "surprise"),
        ("base.suite", "bookworm; rm", "base.suite"),
        ("base.packages", ["curl", "--option"], "base.packages.1"),
        ("base.packages", "curl", "base.packages"),
        ("python.packages", ["numpy>=2"], "python.packages.0"),
        ("python.packages", ["numpy==1.0"], "image.toml"),
        ("python.packages", ["absent==1.0"], "image.toml"),
        ("python.version", "3", "python.version"),
        ("python.warm_imports", ["os; import sys"], "python.warm_imports.0"),
        ("user.uid", 0, "user.uid"),
        ("user.uid", 1000, "user.uid"),
        ("user.home", "/root", "user.home"),
        ("user.home", "/home/../etc", "user.home"),
        ("env", {"A B": "1"}, "env.A B.[key]"),
        ("env.A", 1, "env.A"),
        ("limits.memory", 1, "limits.memory"),
        ("limits.cpus", -1, "limits.cpus"),
        ("lock", "x", "lock"),
    ],
)
def test_a_recipe_that_cannot_be_built_says_where(path: str, value: Any, where: str) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        parse(changed(path, value), LOCK)
    assert caught.value.where == where


@pytest.mark.parametrize(
    "lock", ["numpy==2.4.6\n", "numpy>=2\n", f"-r other.txt {HASH}\n", f"numpy @ file:///x {HASH}\n", "--index x\n"]
)
def test_a_lock_that_is_not_pinned_and_hashed_is_refused(lock: str) -> None:
    with pytest.raises(RecipeInvalid):
        parse(changed("python.packages", []), lock)


def test_pins_are_read_from_every_way_a_lock_is_written() -> None:
    assert locked_pins(LOCK) == {"numpy": "2.4.6", "psycopg-binary": "3.3.9", "psycopg": "3.3.9"}


def test_a_broken_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match="there is none"):
        load(tmp_path)
    for content in (b"name = ", b"\xff\xfe", b"name = 1"):
        (tmp_path / "image.toml").write_bytes(content)
        with pytest.raises(RecipeInvalid):
            load(tmp_path)
    (tmp_path / "image.toml").write_bytes(b"#" * (300 * 1024))
    with pytest.raises(RecipeInvalid, match="larger"):
        load(tmp_path)


@given(st.text("aB1-_.", min_size=1))
def test_normalised_names_are_stable(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)
    assert "_" not in normalise(name)


def test_another_mount_point_is_another_version_of_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image built before lacks the folder, and nothing may be made in it later."""
    recipe = parse(RAW, LOCK)
    before = (recipe.digest(), recipe.base_digest())
    monkeypatch.setattr("workers.images.recipe.MOUNT_POINTS", ("/in", "/other"))
    assert (recipe.digest() == before[0], recipe.base_digest() == before[1]) == (False, True)
