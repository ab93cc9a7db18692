"""A job that asks for a GPU, from its client to what runsc would be told: only the GPU itself is missing here.

NVML answers by a library of our own, device files of another kind stand in for the driver's, and runsc is not called
for the sandbox with the GPU: its specification is read where it would begin.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.app import open_volumes, parts_of
from cluster.settings import Settings, load
from sandpool import AsyncClient, Gpu, PythonJob
from sandpool.outcome import Ending
from tests.sandbox.conftest import IMAGES
from tests.sandbox.embedded import CONFIG, embedded_client
from tests.support.nvml import GIB, build_fake_nvml, h100, script
from workers.gpu.desk import GpuDesk
from workers.gpu.passage import LIBRARIES_AT
from workers.gpu.watch import GpuWatch
from workers.sandbox.errors import RunscFailed
from workers.sandbox.image import Image
from workers.sandbox.invocation import Launch
from workers.sandbox.runsc import Runsc

STAND_INS = {"nvidiactl": "null", "nvidia-uvm": "zero", "nvidia0": "full", "nvidia1": "random"}

Begun = tuple[dict[str, Any], Launch]


@pytest.fixture
def node(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with two H100, the second of which is in use by somebody else."""
    root = short_folder / "node"
    (root / "dev").mkdir(parents=True)
    for name, stand_in in STAND_INS.items():
        (root / "dev" / name).symlink_to(f"/dev/{stand_in}")
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "libcuda.so.1").write_bytes(b"driver")
    (root / "script").write_text(script(h100(0, processes=f"4711:{70 * GIB}", free=9 * GIB), h100(1)))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_fake_nvml(root)))
    monkeypatch.setenv("FAKE_NVML", str(root / "script"))
    watched = partial(GpuWatch, interval_s=0.1, deadline_s=20.0)
    monkeypatch.setattr("workers.gpu.desk.GpuWatch", watched)
    monkeypatch.setattr("workers.sandbox.host.GpuDesk", partial(GpuDesk, root=root))
    return root


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """What runsc was told of sandboxes with a GPU."""
    begun: list[Begun] = []
    run = Runsc.run

    async def watched(self: Runsc, sandbox_id: str, launch: Launch) -> None:
        if "--nvproxy" not in launch.flags:
            return await run(self, sandbox_id, launch)
        written = await asyncio.to_thread((launch.bundle / "config.json").read_text)
        begun.append((json.loads(written), launch))
        raise RunscFailed("run", 1, "there is no GPU on this machine")

    monkeypatch.setattr(Runsc, "run", watched)
    return begun


@pytest.fixture
def settings(node: Path, begun: list[Begun], short_folder: Path, base_image: Image) -> Settings:
    (short_folder / "policy.toml").write_text('dialect = "duckdb"\ntables = "all"\n')
    (short_folder / "sandpool.toml").write_text(
        f"{CONFIG}max_attempts = 1\n".format(folder=short_folder, images=IMAGES)
    )
    return load(short_folder / "sandpool.toml")


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    volumes = await asyncio.to_thread(open_volumes, parts_of(settings).volumes)
    async with embedded_client(settings, volumes) as client:
        yield client


async def test_a_placed_job_gets_the_gpu_that_is_free_and_no_other(client: AsyncClient, begun: list[Begun]) -> None:
    job = PythonJob(code="1", image="base", gpu=Gpu(memory_bytes=20 * GIB), priority="interactive")
    outcome = await (await client.submit(job)).outcome(timeout=60)
    assert outcome.error is not None, outcome
    ((spec, launch), *more) = begun
    assert not more and launch.flags == ("--nvproxy",)
    uuid = h100(1)["uuid"]
    told = dict(entry.split("=", 1) for entry in spec["process"]["env"])
    assert told["NVIDIA_VISIBLE_DEVICES"] == told["CUDA_VISIBLE_DEVICES"] == uuid
    paths = {device["path"]: (device["major"], device["minor"]) for device in spec["linux"]["devices"]}
    assert paths == {"/dev/nvidiactl": (1, 3), "/dev/nvidia-uvm": (1, 5), "/dev/nvidia1": (1, 8)}
    denied, *allowed = spec["linux"]["resources"]["devices"]
    assert denied == {"allow": False, "access": "rwm"}
    assert {(rule["major"], rule["minor"]) for rule in allowed} == set(paths.values())
    (driver,) = [mount for mount in spec["mounts"] if mount["destination"] == LIBRARIES_AT]
    assert "ro" in driver["options"]


async def test_more_gpus_than_are_free_wait_or_are_refused_with_the_reason(
    client: AsyncClient, begun: list[Begun]
) -> None:
    job = PythonJob(code="1", image="base", gpu=Gpu(count=3), priority="interactive")
    outcome = await (await client.submit(job)).outcome(timeout=60)
    assert outcome.error is not None
    assert (outcome.ending, outcome.error.code, begun) == (Ending.Failed, "placement.never", [])
    assert "GPU" in outcome.error.message
    assert (await (await client.submit(PythonJob(code="1 + 1", image="base"))).outcome(timeout=60)).value == "2"
