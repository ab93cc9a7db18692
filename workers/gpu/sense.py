"""NVML's raw answers -> an inventory that makes sense. Pure; called by `watch` with whatever its process wrote.

NVML is a library of the driver: after a fault it answers with errors, zeros or noise, and all of it is taken for
possible here. A device without a name, or with a memory that cannot be, does not exist for us; what is merely unknown
is None. Whatever is left out is counted in the inventory's reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from workers.gpu.device import Gpu, GpuProcess, Inventory

MOST_DEVICES = 128
MOST_PROCESSES = 256
MOST_XIDS = 16
LARGEST_BYTES = 1 << 44
"""16 TiB: far more than any GPU has, far less than noise."""
FATAL_XIDS = frozenset({48, 62, 63, 64, 74, 79, 94, 95, 109, 110, 119, 120, 140, 143})
"""Broken memory, link, bus or firmware, by NVIDIA's catalogue. Never one that a program can cause by its own mistakes
(13, 31, 43, 45, ...): hostile code could take a GPU away from everybody."""
COMPUTE_MODES = ("default", "exclusive-thread", "prohibited", "exclusive-process")

_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{4,90}")
_NAME = re.compile(r"[ -~]{1,96}")


def sense(raw: object, past_xids: Mapping[str, Sequence[int]] = MappingProxyType({})) -> Inventory:
    """An inventory of whatever NVML's process said; with the errors, by uuid, which an earlier process was told of."""
    if not isinstance(raw, Mapping):
        return Inventory(reason="NVML's answer makes no sense")
    driver = _text(raw.get("driver"), _NAME)
    if reason := raw.get("reason"):
        return Inventory(driver=driver, reason=str(reason)[:300])
    found = raw.get("gpus")
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) > MOST_DEVICES:
        return Inventory(driver=driver, reason="NVML's answer makes no sense")
    gpus: dict[str, Gpu] = {}
    for device in found:
        gpu = _gpu(device, past_xids) if isinstance(device, Mapping) else None
        if gpu is not None:
            gpus.setdefault(gpu.uuid, gpu)
    return Inventory(driver=driver, gpus=tuple(gpus.values()), reason=_reason(len(found), len(gpus)))


def _reason(found: int, usable: int) -> str:
    if not found:
        return "the driver is there, but no GPU"
    return f"{found - usable} of {found} GPUs give no answer that makes sense" if usable < found else ""


def _gpu(raw: Mapping[Any, Any], past_xids: Mapping[str, Sequence[int]]) -> Gpu | None:
    uuid, model = _text(raw.get("uuid"), _UUID), _text(raw.get("model"), _NAME)
    memory_bytes, minor = _whole(raw.get("memory_bytes"), 1, LARGEST_BYTES), _whole(raw.get("minor"), 0, 1 << 20)
    if not uuid or not model or memory_bytes is None or minor is None:
        return None
    free_bytes = _whole(raw.get("free_bytes"), 0, memory_bytes)
    mode = _whole(raw.get("compute_mode"), 0, 3)
    xids = [*past_xids.get(uuid, ()), *(xid for xid in _list(raw.get("xids")) if _whole(xid, 0, 100_000) is not None)]
    gpu = Gpu(
        uuid=uuid,
        model=model,
        minor=minor,
        memory_bytes=memory_bytes,
        free_bytes=free_bytes or 0,
        utilisation_percent=_whole(raw.get("utilisation_percent"), 0, 100),
        temperature_c=_whole(raw.get("temperature_c"), -50, 200),
        ecc_uncorrected=_whole(raw.get("ecc_uncorrected"), 0, 1 << 62),
        xids=tuple(xids[-MOST_XIDS:]),
        processes=tuple(_processes(_list(raw.get("processes")), memory_bytes)),
        compute_mode="unknown" if mode is None else COMPUTE_MODES[mode],
        mig=_text(raw.get("mig"), _NAME),
        parent=_text(raw.get("parent"), _UUID),
        instance=_instance(raw.get("instance")),
    )
    return _with_health(gpu, _text(raw.get("error"), _NAME), knows_free=free_bytes is not None)


def _with_health(gpu: Gpu, error: str, *, knows_free: bool) -> Gpu:
    fatal = [xid for xid in gpu.xids if xid in FATAL_XIDS]
    if error:
        why = error
    elif fatal:
        why = f"the driver reported error {fatal[-1]} (XID)"
    elif gpu.ecc_uncorrected:
        why = f"{gpu.ecc_uncorrected} memory errors that could not be corrected"
    elif gpu.compute_mode == "prohibited":
        why = "its compute mode is `prohibited`"
    elif not knows_free:
        why = "NVML does not say how much of its memory is free"
    else:
        return gpu
    return msgspec.structs.replace(gpu, unhealthy=why)


def _processes(found: Sequence[object], memory_bytes: int) -> list[GpuProcess]:
    processes = []
    for item in found[:MOST_PROCESSES]:
        if isinstance(item, Sequence) and len(item) == 2 and (pid := _whole(item[0], 1, 1 << 31)) is not None:
            processes.append(GpuProcess(pid, _whole(item[1], 0, memory_bytes)))
    return processes


def _instance(value: object) -> tuple[int, int] | None:
    numbers = [_whole(item, 0, 1024) for item in _list(value)]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and None not in numbers else None  # type: ignore[return-value]


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _text(value: object, pattern: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object, lowest: int, highest: int) -> int | None:
    if not _is_number(value):
        return None
    number = int(value)  # type: ignore[call-overload]
    return number if lowest <= number <= highest and number == value else None
