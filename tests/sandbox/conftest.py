"""Real sandboxes for the tests of this folder: the image `base`, built once per machine; an empty host for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.sandbox.inside import Inside
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes

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
