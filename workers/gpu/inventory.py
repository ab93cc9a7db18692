"""The process that asks NVML: `python -m workers.gpu.inventory SECONDS`, one line of JSON for every look.

Started by `watch`; with `--once` by `sandpool doctor`. A process of its own because a call into a driver in trouble may
never return, or take its process down. It tells what NVML says and judges nothing (`sense` does). It ends with its
parent, even from within a call that hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pynvml

from workers.gpu.device import NONE_HERE

ONCE = "--once"
MOST_GPUS, MOST_INSTANCES, MOST_EVENTS, MOST_XIDS = 64, 16, 64, 16
MEMORY_LIMIT_BYTES = 8 << 30
"""Address space: a driver in trouble may claim to have billions of processes, for which the binding makes room."""
PR_SET_PDEATHSIG = 1

_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)


class Reader:
    """Looks at all GPUs, and gathers the errors that the driver reports between two looks."""

    def __init__(self) -> None:
        self._events: Any = None
        self._watched: set[str] = set()
        self._xids: defaultdict[str, list[int]] = defaultdict(list)

    def look(self) -> dict[str, Any]:
        """What NVML says, as plain data. Raises NVMLError where not even the number of GPUs is to be had."""
        count = pynvml.nvmlDeviceGetCount()
        if count > MOST_GPUS:
            return {"reason": f"NVML says that there are {count} GPUs"}
        gpus = [device for index in range(count) for device in self._devices(index)]
        return {"driver": _try(pynvml.nvmlSystemGetDriverVersion), "gpus": gpus}

    def wait(self, seconds: float) -> None:
        """Until the next look; errors that the driver reports meanwhile are kept."""
        until = time.monotonic() + seconds
        for _ in range(MOST_EVENTS):
            left_s = until - time.monotonic()
            if left_s <= 0 or not self._watched:
                break
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, max(1, int(left_s * 1000)))
            except pynvml.NVMLError:
                break  # the time is over, or this driver tells of no events
            if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                uuid = _try(pynvml.nvmlDeviceGetUUID, event.device)
                self._xids[uuid].append(int(event.eventData))
                del self._xids[uuid][:-MOST_XIDS]
        time.sleep(max(0.0, until - time.monotonic()))

    def _devices(self, index: int) -> Iterator[dict[str, Any]]:
        """The GPU of this index; or its MIG instances, where it is divided."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            yield {"error": str(error)}
            return
        uuid = _try(pynvml.nvmlDeviceGetUUID, handle)
        self._watch(uuid, handle)
        whole = self._told(handle, uuid)
        mode = _try(pynvml.nvmlDeviceGetMigMode, handle)
        if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            yield whole
            return
        for position in range(min(MOST_INSTANCES, _try(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0)):
            part = _try(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, position)
            if part is not None:
                yield self._part(part, whole)

    def _part(self, handle: Any, whole: dict[str, Any]) -> dict[str, Any]:
        """A MIG instance; what NVML knows only of the whole GPU is taken from there."""
        own = self._told(handle, str(whole.get("uuid")))
        ids = pynvml.nvmlDeviceGetGpuInstanceId, pynvml.nvmlDeviceGetComputeInstanceId
        told = {key: value for key, value in own.items() if value is not None and key != "model"}
        profile = str(own.get("model")).rpartition("MIG ")[2]
        shared = {key: value for key, value in whole.items() if key not in ("error", "processes")}
        instance = [_try(ask, handle) for ask in ids]
        return shared | told | {"mig": profile, "parent": whole["uuid"], "instance": instance}

    def _told(self, handle: Any, events_of: str) -> dict[str, Any]:
        facts: dict[str, Any] = {"xids": self._xids.get(events_of, [])}
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            facts |= {"memory_bytes": memory.total, "free_bytes": memory.free}
        except pynvml.NVMLError as error:
            facts["error"] = f"NVML: {error}"
        for name, ask in QUESTIONS.items():
            facts[name] = _try(ask, handle)
        return facts

    def _watch(self, uuid: str | None, handle: Any) -> None:
        if uuid is None or uuid in self._watched:
            return
        with contextlib.suppress(pynvml.NVMLError):
            if self._events is None:
                self._events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
            self._watched.add(uuid)


def _processes(handle: Any) -> list[tuple[int, int | None]]:
    return [(found.pid, found.usedGpuMemory) for found in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "uuid": pynvml.nvmlDeviceGetUUID,
    "model": pynvml.nvmlDeviceGetName,
    "minor": pynvml.nvmlDeviceGetMinorNumber,
    "utilisation_percent": lambda handle: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "temperature_c": lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
    "ecc_uncorrected": lambda handle: pynvml.nvmlDeviceGetTotalEccErrors(
        handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    ),
    "compute_mode": pynvml.nvmlDeviceGetComputeMode,
    "processes": _processes,
}
"""Each may fail by itself: old drivers, small cards and containers do not know all of it."""


def _try(ask: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return ask(*arguments)
    except (pynvml.NVMLError, MemoryError, UnicodeDecodeError, OverflowError):
        return None


def _serve(interval_s: float, *, once: bool) -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _say({"reason": NONE_HERE if error.value in _ABSENT else f"NVML does not start: {error}"})
        return
    reader, parent = Reader(), os.getppid()
    while os.getppid() == parent:
        try:
            _say(reader.look())
        except pynvml.NVMLError as error:
            _say({"reason": f"NVML: {error}"})
        if once:
            return
        reader.wait(interval_s)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, default=str) + "\n")
    sys.stdout.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are for the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    once = sys.argv[1:] == [ONCE]
    _serve(0.0 if once else float(sys.argv[1]), once=once)


if __name__ == "__main__":
    main()
