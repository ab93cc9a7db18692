"""Whatever NVML says, the inventory makes sense: nothing negative, nothing twice, nothing larger than a GPU can be."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.gpu.device import Gpu, GpuProcess, Inventory
from workers.gpu.sense import FATAL_XIDS, LARGEST_BYTES, sense
from workers.gpu.watch import usable

GIB = 1 << 30
GOOD: dict[str, Any] = {
    "uuid": "GPU-5f3a09c2-1111",
    "model": "NVIDIA L4",
    "minor": 0,
    "memory_bytes": 24 * GIB,
    "free_bytes": 23 * GIB,
    "utilisation_percent": 3,
    "temperature_c": 40,
    "ecc_uncorrected": 0,
    "compute_mode": 0,
    "xids": [],
    "processes": [[4711, GIB], [4712, None]],
}
noise = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "gpus", "driver"]), inner),
    max_leaves=12,
)


def said(*gpus: dict[str, Any]) -> Inventory:
    return sense({"driver": "550.54.15", "gpus": list(gpus)})


def test_a_gpu_in_good_order_is_told_as_it_is() -> None:
    inventory = said(GOOD)
    assert inventory == Inventory(
        driver="550.54.15",
        gpus=(
            Gpu(
                uuid="GPU-5f3a09c2-1111",
                model="NVIDIA L4",
                minor=0,
                memory_bytes=24 * GIB,
                free_bytes=23 * GIB,
                utilisation_percent=3,
                temperature_c=40,
                ecc_uncorrected=0,
                processes=(GpuProcess(4711, GIB), GpuProcess(4712)),
                compute_mode="default",
            ),
        ),
    )
    assert usable(inventory) == inventory.gpus


@given(noise)
def test_noise_never_raises_and_never_makes_an_impossible_gpu(raw: Any) -> None:
    check_possible(sense(raw))


@given(st.dictionaries(st.sampled_from(list(GOOD)), noise, max_size=4))
def test_a_gpu_with_noise_in_it_is_left_out_or_possible(broken: dict[str, Any]) -> None:
    check_possible(said({**GOOD, **broken}, GOOD))


def check_possible(inventory: Inventory) -> None:
    assert len({gpu.uuid for gpu in inventory.gpus}) == len(inventory.gpus)
    assert inventory.gpus or inventory.reason, "a CPU node says why it is one"
    for gpu in inventory.gpus:
        assert gpu.uuid and gpu.model
        assert 0 <= gpu.free_bytes <= gpu.memory_bytes <= LARGEST_BYTES and gpu.memory_bytes > 0
        assert gpu.utilisation_percent is None or 0 <= gpu.utilisation_percent <= 100
        assert all(process.pid > 0 for process in gpu.processes)
        json.dumps([gpu.xids, gpu.ecc_uncorrected, gpu.temperature_c], allow_nan=False)


@pytest.mark.parametrize("memory", [math.nan, math.inf, -1, 0, 2**64 - 1, "80 GiB", None, True, 1.5])
def test_a_memory_that_cannot_be_makes_no_gpu(memory: Any) -> None:
    inventory = said({**GOOD, "memory_bytes": memory})
    assert inventory.gpus == () and inventory.reason == "1 of 1 GPUs give no answer that makes sense"


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        ({"xids": [13, 79]}, "the driver reported error 79 (XID)"),
        ({"ecc_uncorrected": 2}, "2 memory errors that could not be corrected"),
        ({"compute_mode": 2}, "its compute mode is `prohibited`"),
        ({"free_bytes": 25 * GIB}, "NVML does not say how much of its memory is free"),
        ({"error": "NVML: GPU is lost"}, "NVML: GPU is lost"),
    ],
)
def test_a_gpu_that_is_ill_is_shown_and_not_used(fact: dict[str, Any], why: str) -> None:
    inventory = said({**GOOD, **fact})
    assert inventory.gpus[0].unhealthy == why and usable(inventory) == ()


def test_errors_that_a_program_can_cause_do_not_take_a_gpu_away() -> None:
    assert usable(said({**GOOD, "xids": [13, 31, 43, 45, 69]})) != ()
    assert FATAL_XIDS.isdisjoint({13, 31, 43, 45, 69})


def test_an_error_that_an_earlier_process_was_told_of_is_not_forgotten() -> None:
    inventory = sense({"gpus": [GOOD]}, {GOOD["uuid"]: (79,)})
    assert inventory.gpus[0].xids == (79,) and inventory.gpus[0].unhealthy
