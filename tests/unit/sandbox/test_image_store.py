"""Built images on disk: found, pinned, locked, pruned."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workers.images.errors import ImageBusy, UnknownImage
from workers.images.store import BuiltImage, ImageStore

START = datetime(2026, 1, 1, tzinfo=UTC)


def publish(store: ImageStore, name: str, version: int, layer: str = "") -> str:
    digest = hashlib.sha256(f"{name}{version}".encode()).hexdigest()
    with store.draft() as draft:
        (draft / "rootfs").mkdir()
        (draft / "rootfs" / "file").write_text(str(version))
        built = BuiltImage(
            name=name, digest=digest, built_at=START + timedelta(hours=version), origin="recipe", size_bytes=1,
            content="c", layer=layer, uid=10_000, home="/home/sandpool", limits={"cpus": 2},
        )  # fmt: skip
        store.publish(draft, built)
    return digest


def test_a_name_means_what_was_built_last(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    first, second = publish(store, "data", 1), publish(store, "data", 2)
    assert store.resolve("data").digest == second
    assert store.resolve(f"data@{first[:12]}").digest == first
    assert store.resolve(f"@{first[:6]}").digest == first
    assert store.resolve(f"data@sha256:{first}").rootfs.joinpath("file").read_text() == "1"
    assert store.resolve("data").ceiling.cpus == 2
    store.point("data", first)
    assert store.resolve("data").digest == first


@pytest.mark.parametrize(
    "ref", ["", "absent", "data@ffffff", "data@123", "Data", "../x", "data@" + "0" * 65, "@", "other@{}"]
)
def test_an_image_that_is_not_there_is_a_typed_error(tmp_path: Path, ref: str) -> None:
    store = ImageStore(tmp_path)
    digest = publish(store, "data", 1)
    with pytest.raises(UnknownImage):
        store.resolve(ref.format(digest[:12]))


def test_nothing_is_known_of_an_empty_store(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "absent")
    assert store.list_all() == []
    assert store.prune() == []


def test_a_draft_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(RuntimeError, match="half-way"), store.draft() as draft:
        (draft / "rootfs").mkdir()
        raise RuntimeError("half-way")
    assert list((tmp_path / "drafts").iterdir()) == []
    assert store.list_all() == []


def test_an_image_that_lost_its_description_is_not_there(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    digest = publish(store, "data", 1)
    (tmp_path / "images" / digest / "image.json").write_text("{")
    assert not store.has(digest)
    with pytest.raises(UnknownImage):
        store.resolve("data")
    assert publish(store, "data", 1) == digest
    assert store.has(digest)


def test_prune_keeps_what_a_name_means_and_what_is_in_use(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    versions = [publish(store, "data", number) for number in range(5)]
    store.point("data", versions[1])
    assert {built.digest for built in store.prune(dry_run=True)} == {versions[i] for i in (0, 2, 3)}
    with store.in_use(versions[2]):
        assert {built.digest for built in store.prune()} == {versions[i] for i in (0, 3)}
    assert {built.digest for built in store.list_all()} == {versions[i] for i in (1, 2, 4)}
    assert store.prune(keep=2) == []
    assert {built.digest for built in store.prune()} == {versions[2]}


def test_prune_removes_layers_and_drafts_that_nobody_needs(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    for layer in ("used", "unused", "busy"):
        with store.draft() as draft:
            (draft / "rootfs").mkdir()
            store.publish_layer(draft, layer)
    publish(store, "data", 1, layer="used")
    (tmp_path / "drafts" / "dead").mkdir()
    with store.draft() as alive, store.locked("busy", 1):
        store.prune()
        assert alive.is_dir()
    assert {entry.name for entry in (tmp_path / "layers").iterdir()} == {"used", "busy"}
    assert not (tmp_path / "drafts" / "dead").exists()


def test_an_image_that_is_gone_cannot_be_taken_into_use(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(UnknownImage), store.in_use("0" * 64):
        pass


def test_two_builders_of_one_image_wait_for_each_other(tmp_path: Path) -> None:
    store, order = ImageStore(tmp_path), list[str]()

    def second() -> None:
        with ImageStore(tmp_path).locked("digest", 5):
            order.append("second")

    with store.locked("digest", 1):
        with pytest.raises(ImageBusy), ImageStore(tmp_path).locked("digest", 0):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.15)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_builder_that_died_holds_nothing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    child = os.fork()
    if child == 0:
        lock = store.locked("digest", 1)
        lock.__enter__()
        draft = store.draft()
        draft.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    with store.locked("digest", 0):
        assert len(list((tmp_path / "drafts").iterdir())) == 1
    store.prune()
    assert list((tmp_path / "drafts").iterdir()) == []
