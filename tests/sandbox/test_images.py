"""Images built and imported for real, and run: on the Debian layer of `base`, with a package index of our own."""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.inside import Inside
from tests.support.oci import Member, write_archive
from workers.images import tree
from workers.images.build import build
from workers.images.errors import ArchiveInvalid, BuildToolMissing, ImageBuildFailed, RecipeInvalid
from workers.images.importing import import_archive
from workers.images.recipe import Recipe, load, parse
from workers.images.store import BuiltImage, ImageStore
from workers.sandbox.bundle import Command
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """Environment for uv and pip: one small wheel, `tiny` 1.0, and no other index."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    own = {"UV_FIND_LINKS": str(folder), "UV_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    return {**os.environ, **own, "PIP_FIND_LINKS": str(folder), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def recipe_with_tiny(index: dict[str, str], **changes: Any) -> Recipe:
    wheel = next(Path(index["PIP_FIND_LINKS"]).glob("tiny-*.whl"))
    digest = changes.pop("sha256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    python = {"packages": ["tiny==1.0"], "warm_imports": ["tiny"]}
    base = {"suite": "bookworm", "packages": ["python3"]}
    raw = {"name": "tiny", "base": base, "python": python, "env": {"FROM": "recipe"}, **changes}
    return parse(raw, f"tiny==1.0 --hash=sha256:{digest}\n")


@pytest.fixture
def store(tmp_path: Path, base_image: Image, image_store: ImageStore) -> Iterator[ImageStore]:
    """An empty store that already has the Debian layer of `base`."""
    ours = ImageStore(tmp_path / "images")
    digest = load(ROOT / "images" / "base").base_digest()
    layer = image_store.layer(digest)
    assert layer is not None
    with ours.draft() as draft:
        tree.copy_by_links(layer, draft / "rootfs")
        ours.publish_layer(draft, digest)
    yield ours
    tree.remove(tmp_path / "images")


async def answer_of(sandboxes: Sandboxes, image: Image, *argv: str) -> bytes:
    sandbox = await sandboxes.create(image, Limits())
    return (await Inside(sandboxes, sandbox).run(*argv)).stdout


@pytest.mark.may_block("builds an image")
async def test_a_built_image_runs_with_its_packages_and_environment(
    store: ImageStore, index: dict[str, str], sandboxes: Sandboxes
) -> None:
    built = build(store, recipe_with_tiny(index), environment=index)
    assert built.python_packages == {"tiny": "1.0"}
    assert built.debian_packages["python3"].startswith("3.11")
    image = store.resolve("tiny")
    assert image.warm_imports == ("tiny",)
    code = "import tiny, os; print(tiny.ANSWER, os.environ['FROM'], tiny.__cached__)"
    said = await answer_of(sandboxes, image, "/usr/bin/python3", "-I", "-c", code)
    assert said.startswith(b"42 recipe /usr/local/lib/python3.11/dist-packages/__pycache__/tiny.cpython-311.pyc")
    assert (image.rootfs / "usr/local/lib/python3.11/dist-packages/__pycache__/tiny.cpython-311.pyc").is_file()


def test_two_builds_of_one_recipe_have_the_same_content(
    store: ImageStore, index: dict[str, str], tmp_path: Path
) -> None:
    recipe = recipe_with_tiny(index)
    first = build(store, recipe, environment=index)
    tree.remove(tmp_path / "images" / "images" / first.digest)
    second = build(store, recipe, environment=index)
    assert (first.digest, first.content, first.size_bytes) == (second.digest, second.content, second.size_bytes)


def test_two_processes_that_build_one_image_build_it_once(
    store: ImageStore, index: dict[str, str], tmp_path: Path
) -> None:
    said: list[str] = []
    built: list[BuiltImage] = []

    def run() -> None:
        own = ImageStore(tmp_path / "images")
        built.append(build(own, recipe_with_tiny(index), environment=index, say=said.append))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(built) == 2
    assert built[0] == built[1]
    assert sum("is built already" in line for line in said) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"sha256": "0" * 64}, ImageBuildFailed),
        ({"python": {"packages": ["tiny==1.0"], "version": "3.12"}}, ImageBuildFailed),
        ({"base": {"suite": "nowhere", "packages": ["python3"]}}, BuildToolMissing),
    ],
    ids=["wrong hash", "another Python", "no such suite"],
)
def test_a_build_that_fails_half_way_leaves_nothing(
    store: ImageStore, index: dict[str, str], tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        build(store, recipe_with_tiny(index, **changes), environment=index)
    assert store.list_all() == []
    assert list((tmp_path / "images" / "drafts").iterdir()) == []
    assert store.current("tiny") is None


def test_a_changed_recipe_stands_beside_the_old_one(store: ImageStore, index: dict[str, str]) -> None:
    old = build(store, recipe_with_tiny(index), environment=index)
    new = build(store, recipe_with_tiny(index, env={"FROM": "newer"}), environment=index)
    assert store.resolve("tiny").digest == new.digest != old.digest
    assert store.resolve(f"tiny@{old.digest[:10]}").env == {"FROM": "recipe"}
    assert build(store, recipe_with_tiny(index), environment=index) == old
    assert store.resolve("tiny").digest == old.digest


def shell_of(image: Image) -> list[Member]:
    """What /bin/sh needs, as members of a layer."""
    found = []
    wanted = (
        "usr/bin/dash",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "usr/bin/cat",
    )
    for path in wanted:
        found.append(Member(path, content=(image.rootfs / path).read_bytes()))
    links = {
        "bin": "usr/bin",
        "lib64": "usr/lib64",
        "usr/bin/sh": "dash",
        "usr/lib64/ld-linux-x86-64.so.2": "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "lib": "usr/lib",
    }
    return [*found, *(Member(name, kind=tarfile.SYMTYPE, target=target) for name, target in links.items())]


@pytest.mark.may_block("imports an image")
async def test_an_imported_image_runs_as_our_user(
    store: ImageStore, base_image: Image, sandboxes: Sandboxes, tmp_path: Path
) -> None:
    upper = [Member("app/own", content=b"mine", mode=0o600, uid=4711), Member("app/root", content=b"not", mode=0o600)]
    config = {
        "User": "root",
        "Env": ["GREETING=hello", "HOME=/root", "bad"],
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["exit 3"],
    }
    path = write_archive(tmp_path / "shell.tar", [shell_of(base_image), upper], config=config)
    built = import_archive(store, path, "shell", {"cpus": 2})
    image = store.resolve("shell")
    assert (image.command, image.ceiling.cpus) == (("/bin/sh", "-c", "exit 3"), 2)
    said = await answer_of(
        sandboxes, image, "/bin/sh", "-c", "echo $GREETING $HOME; cat /app/own; cat /app/root 2>&1 || :"
    )
    assert said.startswith(b"hello /home/sandpool\nmine")
    assert b"ermission denied" in said
    sandbox = await sandboxes.create(image, Limits(), Command(argv=image.command))
    assert await sandboxes.wait(sandbox.id, 10) == 3
    assert import_archive(store, path, "shell", {"cpus": 2}) == built


@pytest.mark.parametrize(
    "layers",
    [
        [[Member("etc", kind=tarfile.SYMTYPE, target="/etc"), Member("etc/sandpool-escape", content=b"x")]],
        [[Member("etc", kind=tarfile.SYMTYPE, target="/etc")]],
        [[Member("var", kind=tarfile.SYMTYPE, target="/var")], [Member("x")]],
        [[Member("../sandpool-escape")]],
        [[Member("disk", kind=tarfile.BLKTYPE)]],
    ],
    ids=["through a link", "etc is a link", "var is a link", "dots", "device"],
)
def test_a_hostile_archive_leaves_nothing_anywhere(
    store: ImageStore, tmp_path: Path, layers: list[list[Member]]
) -> None:
    path = write_archive(tmp_path / "hostile.tar", layers)
    with pytest.raises((ArchiveInvalid, ImageBuildFailed)):
        import_archive(store, path, "hostile")
    assert store.list_all() == []
    assert list((tmp_path / "images" / "drafts").iterdir()) == []
    assert not Path("/etc/sandpool-escape").exists()
    assert not list(tmp_path.rglob("sandpool-escape"))


@pytest.mark.parametrize(("name", "limits"), [("../x", {}), ("Big", {}), ("ok", {"cpus": 0}), ("ok", {"nonsense": 1})])
def test_an_import_under_a_bad_name_or_limit_is_refused(
    store: ImageStore, tmp_path: Path, name: str, limits: dict[str, int]
) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]])
    with pytest.raises(RecipeInvalid):
        import_archive(store, path, name, limits)
