"""What lets a sandbox use GPUs, as data: which device files it has and where the driver's libraries are.

Made by `workers.gpu.passage` on a real node, by hand in tests; read by `bundle`. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.sandbox.errors import SpecInvalid

LIBRARIES_AT = "/opt/nvidia"
"""Where the driver's libraries are inside."""
RUNSC_FLAGS = ("--nvproxy",)
"""gVisor checks each call to the driver against a list of the ones it knows, and passes those on."""

_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{4,90}")
_DEVICE = re.compile(r"/dev/nvidia(\d+|ctl|-uvm|-caps/nvidia-cap\d+)")


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A character device of the host. Raises SpecInvalid for any that is not NVIDIA's."""

    path: str
    major: int
    minor: int

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.path):
            raise SpecInvalid("gpus.device", f"{self.path!r} is no device file of a GPU")


@dataclass(frozen=True, slots=True)
class GpuPassage:
    """The GPUs of one sandbox and nothing else of the node's."""

    uuids: tuple[str, ...]
    files: tuple[DeviceFile, ...]
    libraries: Path
    """Folder of the host, seen read-only at LIBRARIES_AT."""

    def __post_init__(self) -> None:
        if not self.uuids or not all(_UUID.fullmatch(uuid) for uuid in self.uuids):
            raise SpecInvalid("gpus", "at least one, each by its uuid")

    def environment(self) -> dict[str, str]:
        return {
            "NVIDIA_VISIBLE_DEVICES": ",".join(self.uuids),
            "CUDA_VISIBLE_DEVICES": ",".join(self.uuids),
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "LD_LIBRARY_PATH": LIBRARIES_AT,
        }

    def device_files(self, uid: int, gid: int) -> list[dict[str, Any]]:
        """`linux.devices` of the specification."""
        return [
            {"path": file.path, "type": "c", "major": file.major, "minor": file.minor,
             "fileMode": 0o600, "uid": uid, "gid": gid}
            for file in self.files
        ]  # fmt: skip

    def device_rules(self) -> list[dict[str, Any]]:
        """`linux.resources.devices`, after the rule that denies all."""
        return [
            {"allow": True, "type": "c", "major": file.major, "minor": file.minor, "access": "rw"}
            for file in self.files
        ]  # fmt: skip
