"""Real sandboxes for the tests of this folder: the image `base`, built once per machine; an empty host for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.sandbox.inside import Inside
from tests.sandbox.live import RUNNER, Mounts, start_live
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore
from workers.sandbox.bundle import Bind
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandbox, Sandboxes
from workers.sandbox.session import Session

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / ".sandpool" / "images"


@pytest.fixture(scope="session")
def image_store() -> ImageStore:
    return ImageStore(IMAGES)


@pytest.fixture(scope="session")
def base_image(image_store: ImageStore) -> Image:
    """The image of images/base. The first call on a machine takes 20 to 30 s."""
    built = build(image_store, load(ROOT / "images" / "base"), environment=os.environ)
    return image_store.resolve(f"{built.name}@{built.digest}")


@pytest.fixture(scope="session")
def data_image(image_store: ImageStore) -> Image:
    """The image of images/data. The first call on a machine takes about a minute."""
    built = build(image_store, load(ROOT / "images" / "data"), environment=os.environ)
    return image_store.resolve(f"{built.name}@{built.digest}")


@pytest.fixture(scope="session")
def node_image(image_store: ImageStore) -> Image:
    """The image of images/node. The first call on a machine takes 20 to 30 s."""
    built = build(image_store, load(ROOT / "images" / "node"), environment=os.environ)
    return image_store.resolve(f"{built.name}@{built.digest}")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Like tmp_path, but short: runsc keeps sockets below it."""
    folder = Path(mkdtemp(prefix="sp-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def sandboxes(short_folder: Path) -> AsyncIterator[Sandboxes]:
    host = Sandboxes(short_folder / "host", name=short_folder.name.lower().replace("_", "x"))
    await host.open()
    yield host
    await host.close()


@pytest.fixture
async def host(short_folder: Path, image_store: ImageStore, base_image: Image) -> AsyncIterator[Host]:
    """An open host with room for some sandboxes, and nobody in it."""
    name = short_folder.name.lower().replace("_", "x")
    spec = HostSpec(folder=str(short_folder / "host"), images="", name=name, cpus=8, memory_bytes=4 << 30)
    host = Host(spec, image_store)
    await host.open()
    yield host
    await host.close()


@pytest.fixture
def limits() -> Limits:
    """What the sandboxes of these tests may use: the product's own defaults, except for less memory and time."""
    return Limits(
        memory_bytes=256 << 20, disk_bytes=32 << 20, tmp_bytes=16 << 20, processes=40, open_files=256, wall_s=20
    )


@pytest.fixture
async def inside(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> AsyncIterator[Inside]:
    """One running sandbox with those limits."""
    sandbox = await sandboxes.create(base_image, limits)
    yield Inside(sandboxes, sandbox)
    await sandboxes.destroy(sandbox.id)


@pytest.fixture
def mounts(short_folder: Path) -> Mounts:
    """The two mounts of a sandbox: the runner, and a socket folder of its own."""

    def make(name: str) -> list[Bind]:
        own = short_folder / name
        own.mkdir(mode=0o755)
        return [Bind(source=RUNNER, target="/opt/sandpool"), Bind(source=own, target="/run/sandpool")]

    return make


@pytest.fixture
async def first(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> AsyncIterator[tuple[Sandbox, Session]]:
    """A sandbox with a session to its runner."""
    sandbox, session = await start_live(sandboxes, base_image, limits, mounts("a"))
    yield sandbox, session
    await session.close()
