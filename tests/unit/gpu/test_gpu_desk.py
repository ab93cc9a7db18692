"""Who gets which GPU of a node: promised once, shared within one tenant only, and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.gpu.desk import GpuDesk
from workers.gpu.device import NONE_HERE, Gpu, Inventory
from workers.gpu.errors import GpuBusy, GpuUnavailable
from workers.gpu.passage import GpuPassage
from workers.gpu.shares import GpuStatus, Share, foreign, why_not

GIB = 1 << 30
GPU = Gpu(uuid="GPU-0000-0", model="H100", minor=0, memory_bytes=80 * GIB, free_bytes=79 * GIB)
ILL = Gpu(uuid="GPU-0000-1", model="H100", minor=1, memory_bytes=80 * GIB, free_bytes=79 * GIB, unhealthy="XID 79")


class StillWatch:
    """A watch whose last answer is set by the test."""

    def __init__(self) -> None:
        self.inventory = Inventory(driver="550", gpus=(GPU, ILL))

    async def start(self) -> Inventory:
        return self.inventory

    async def close(self) -> None:
        return None


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuDesk:
    def passage(gpus: Any, *, folder: Path, root: Path) -> GpuPassage:
        return GpuPassage(tuple(gpu.uuid for gpu in gpus), (), folder)

    monkeypatch.setattr("workers.gpu.desk.open_passage", passage)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    made = GpuDesk(tmp_path / "gpus", StillWatch(), root=tmp_path)  # type: ignore[arg-type]
    await made.open()
    return made


async def test_a_whole_gpu_is_for_one_job_alone_until_it_is_given_back(desk: GpuDesk) -> None:
    hold = await desk.take([Share(GPU.uuid)], "acme")
    assert hold.passage.uuids == (GPU.uuid,)
    assert desk.status()[0].reserved_bytes == 79 * GIB
    with pytest.raises(GpuBusy, match="0 MiB are free"):
        await desk.take([Share(GPU.uuid, GIB)], "acme")
    with pytest.raises(GpuBusy, match="in use"):
        await desk.take([Share(GPU.uuid)], "acme")
    desk.give_back(hold)
    assert desk.status()[0].reserved_bytes == 0
    assert await desk.take([Share(GPU.uuid, GIB)], "blue")


async def test_a_gpu_is_shared_within_one_tenant_up_to_what_is_free(desk: GpuDesk) -> None:
    await desk.take([Share(GPU.uuid, 40 * GIB)], "acme")
    with pytest.raises(GpuBusy):
        await desk.take([Share(GPU.uuid, GIB)], "blue")
    await desk.take([Share(GPU.uuid, 39 * GIB)], "acme")
    with pytest.raises(GpuBusy, match="0 MiB are free"):
        await desk.take([Share(GPU.uuid, GIB)], "acme")


async def test_an_ill_or_unknown_gpu_is_given_to_nobody(desk: GpuDesk) -> None:
    with pytest.raises(GpuBusy, match="XID 79"):
        await desk.take([Share(ILL.uuid)], "acme")
    with pytest.raises(GpuUnavailable, match="no GPU GPU-9"):
        await desk.take([Share("GPU-9999")], "acme")


async def test_all_of_a_jobs_gpus_are_taken_or_none(desk: GpuDesk) -> None:
    with pytest.raises(GpuBusy):
        await desk.take([Share(GPU.uuid), Share(ILL.uuid)], "acme")
    assert all(status.reserved_bytes == 0 for status in desk.status())


async def test_a_gpu_whose_driver_files_are_missing_is_free_again(
    desk: GpuDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> GpuPassage:
        raise GpuUnavailable("no /dev/nvidia-uvm")

    monkeypatch.setattr("workers.gpu.desk.open_passage", broken)
    with pytest.raises(GpuUnavailable):
        await desk.take([Share(GPU.uuid)], "acme")
    assert desk.status()[0].reserved_bytes == 0


async def test_a_node_without_the_driver_starts_no_process_and_says_so(tmp_path: Path) -> None:
    desk = GpuDesk(tmp_path / "gpus", StillWatch(), root=tmp_path)  # type: ignore[arg-type]
    await desk.open()
    assert desk.reason() == NONE_HERE


sizes = st.integers(0, 100).map(lambda gib: gib * GIB)


@given(reserved=sizes, others=sizes, wanted=sizes, same=st.booleans())
def test_what_is_granted_was_free_and_never_another_tenants(
    reserved: int, others: int, wanted: int, same: bool
) -> None:
    status = GpuStatus(GPU, reserved, "acme" if reserved else "", others)
    if not why_not(status, Share(GPU.uuid, wanted), "acme" if same else "blue"):
        assert wanted <= GPU.memory_bytes - reserved - others
        assert reserved == 0 or (same and wanted)


@given(free=sizes.filter(lambda size: size <= 80 * GIB), reserved=sizes, before=sizes)
def test_promised_memory_that_is_in_use_is_not_counted_twice(free: int, reserved: int, before: int) -> None:
    gpu = Gpu(uuid=GPU.uuid, model="H100", minor=0, memory_bytes=80 * GIB, free_bytes=free)
    others = foreign(gpu, reserved, before)
    used = 80 * GIB - free
    assert others == used if not reserved else others == max(before, used - reserved)
