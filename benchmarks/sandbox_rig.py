"""What the sandbox benchmarks stand on: built images, a host of ours, bare runsc and bubblewrap beside it.

Opened by `sandbox_start`, `sandbox_life` and `sandbox_density`; everything lies in one short folder and goes with it.
Our side is the host's own parts (`workers.sandbox`), without Ray: what Ray adds is measured by the benchmarks of jobs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.options import Options
from benchmarks.peers import bubblewrap
from benchmarks.peers.bare_runsc import BareRunsc, subreaper
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore
from workers.sandbox.demand import WarmSpec
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.limits import GIB, MIB, Limits
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.starter import Live, Starter

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / ".sandpool" / "images"
NAMES = ("base", "data")
TENANT = "bench"
CODE = "1 + 1"
LIMITS = Limits(memory_bytes=1 * GIB, cpus=2.0, disk_bytes=256 * MIB)
WARM_WAIT_S = 60.0
MOST_WARM = 8
"""Spare sandboxes of one image: the product's default."""


@dataclass(frozen=True, slots=True)
class Rig:
    """Ours and the peers, ready. `sandboxes` and `starter` are ours below the warm pools, in a folder of their own."""

    folder: Path
    images: dict[str, Image]
    host: Host
    sandboxes: Sandboxes
    starter: Starter
    snapshots: dict[str, Snapshot]
    """Image name -> a snapshot of its runner with everything imported, for ours and for bare runsc alike."""
    bare: BareRunsc

    async def warm(self, name: str, count: int = 1) -> None:
        """Until `count` spare sandboxes of the image are there."""
        image = self.images[name]
        deadline = time.monotonic() + WARM_WAIT_S
        while self.host.view().warm.get(f"{image.name}@{image.digest}", 0) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no warm sandbox of {name} within {WARM_WAIT_S:g} s")
            await asyncio.sleep(0.01)

    async def restored(self, name: str) -> Live:
        """Ours, from the snapshot, with its session."""
        return await self.starter.restored(self.snapshots[name], self.images[name], LIMITS)

    def cold_argv(self, name: str) -> tuple[str, ...]:
        return ("/usr/bin/python3", "-I", "-c", self.program(name))

    def program(self, name: str) -> str:
        """What a fresh process has to do to be where a restored sandbox is."""
        return "".join(f"import {module}\n" for module in self.images[name].warm_imports) + f"print({CODE})"

    def wrapped(self, name: str) -> list[str]:
        image = self.images[name]
        return bubblewrap.command(image.rootfs, image.home, self.program(name), image.env)


@asynccontextmanager
async def open_rig(options: Options) -> AsyncIterator[Rig]:
    if bubblewrap.missing():
        raise RuntimeError("bubblewrap is missing: run `make setup`")
    folder = Path(mkdtemp(prefix="spb-"))
    store = ImageStore(IMAGES)
    images: dict[str, Image] = {}
    for name in NAMES:
        built = await asyncio.to_thread(build, store, load(ROOT / "images" / name), environment=os.environ)
        images[name] = store.resolve(f"{built.name}@{built.digest}")
    warm = WarmSpec(memory_bytes=4 * GIB, most=MOST_WARM)
    spec = HostSpec(
        folder=str(folder / "host"), images=str(IMAGES), name="bench", memory_bytes=32 * GIB, cpus=64, warm=warm
    )
    host = Host(spec, store)
    sandboxes = Sandboxes(folder / "own", name="bench-own")
    with subreaper():
        bare = BareRunsc(folder / "bare", "bench-bare")
        await host.open()
        await sandboxes.open()
        try:
            starter = Starter(sandboxes)
            snapshots = {}
            for name, image in images.items():
                options.say(f"a snapshot of {name}")
                snapshots[name] = await _snapshot(sandboxes, starter, image)
                async with host.lease(image.ref, LIMITS, tenant=TENANT):
                    pass  # the first use has its snapshot made
            yield Rig(folder, images, host, sandboxes, starter, snapshots, bare)
            await starter.close()
        finally:
            await host.close()
            await sandboxes.close()
            await asyncio.to_thread(bare.close)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _snapshot(sandboxes: Sandboxes, starter: Starter, image: Image) -> Snapshot:
    live = await starter.cold(image, LIMITS)
    imports = "".join(f"import {module}\n" for module in image.warm_imports)
    await live.session.run_code(imports, context="warm", timeout_s=120)
    await live.session.forget("warm")
    await live.session.release()
    snapshot = await sandboxes.snapshot(live.id, f"bench-{image.name}")
    await starter.end(live)
    return snapshot


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def describe_peers() -> str:
    """One line: which runsc and which bubblewrap."""
    said = [
        subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.split("\n")[0]
        for command in (("runsc", "--version"), ("bwrap", "--version"))
    ]
    return f"{said[0]}, {said[1]}."
