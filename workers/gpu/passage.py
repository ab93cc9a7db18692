"""What lets one sandbox use certain GPUs, as data: its device files and the driver's libraries. Pure.

Made by `driver` on a real node, by hand in tests; read by `workers.sandbox.bundle`, which lets a sandbox see exactly
this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARIES_AT = "/opt/nvidia"
"""Where the driver's libraries are inside. Every image has this folder, empty."""
RUNSC_FLAGS = ("--nvproxy",)
"""gVisor checks each call to the driver against a list of the ones it knows, and passes those on."""

_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{4,90}")
_DEVICE = re.compile(r"/dev/nvidia(\d{1,4}|ctl|-uvm|-caps/nvidia-cap\d{1,6})")


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A character device of the host. Raises ValueError for any that is not NVIDIA's."""

    path: str
    major: int
    minor: int

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is no device file of a GPU")


@dataclass(frozen=True, slots=True)
class GpuPassage:
    """The GPUs of one sandbox and nothing else of the node's. Raises ValueError where that is no GPU."""

    uuids: tuple[str, ...]
    files: tuple[DeviceFile, ...]
    libraries: Path
    """Folder of the host, seen read-only at LIBRARIES_AT."""

    def __post_init__(self) -> None:
        if not self.uuids or not all(_UUID.fullmatch(uuid) for uuid in self.uuids):
            raise ValueError("at least one GPU, each by its uuid")

    def environment(self) -> dict[str, str]:
        """What tells CUDA, and runtimes that read NVIDIA's variables, which devices are theirs."""
        visible = ",".join(self.uuids)
        return {
            "NVIDIA_VISIBLE_DEVICES": visible,
            "CUDA_VISIBLE_DEVICES": visible,
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "LD_LIBRARY_PATH": LIBRARIES_AT,
        }

    def devices(self, uid: int, gid: int) -> list[dict[str, Any]]:
        """`linux.devices` of the specification, for this user alone."""
        owner = {"fileMode": 0o600, "uid": uid, "gid": gid}
        return [
            {"path": file.path, "type": "c", "major": file.major, "minor": file.minor, **owner} for file in self.files
        ]

    def rules(self) -> list[dict[str, Any]]:
        """For `linux.resources.devices`, after the rule that denies all."""
        allowed = {"allow": True, "type": "c", "access": "rw"}
        return [{**allowed, "major": file.major, "minor": file.minor} for file in self.files]
