"""Reads from the driver's files what a sandbox needs to use certain GPUs. Called by hosts before they start one.

Reads /dev and /proc/driver/nvidia, and gathers the driver's libraries in one folder. Rules of NVIDIA's driver that it
follows: /dev/nvidiaN is one GPU; /dev/nvidiactl and /dev/nvidia-uvm belong to all of them and are needed by each; a MIG
instance needs two files of /dev/nvidia-caps as well, one for each kind of instance.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from workers.gpu.device import Gpu
from workers.gpu.errors import GpuUnavailable
from workers.gpu.passage import DeviceFile, GpuPassage

SHARED_FILES = ("dev/nvidiactl", "dev/nvidia-uvm")
LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib/aarch64-linux-gnu", "usr/local/nvidia/lib64")
LIBRARIES = re.compile(
    r"lib(cuda|cudadebugger|nvidia-ml|nvidia-ptxjitcompiler|nvidia-nvvm|nvidia-gpucomp|nvidia-opencl)\.so\.[0-9][0-9.]*"
)
"""Compute and NVML; nothing for graphics, video or displays."""


def open_passage(gpus: Sequence[Gpu], *, folder: Path, root: Path = Path("/")) -> GpuPassage:
    """Device files and libraries for exactly these GPUs. `folder` is kept between sandboxes; `root` is for tests.

    Raises GpuUnavailable where the driver's files are not there.
    """
    paths = [*SHARED_FILES, *(f"dev/nvidia{gpu.minor}" for gpu in gpus)]
    for gpu in gpus:
        paths += _capability_files(gpu, root)
    files = tuple(_device_file(root, path) for path in dict.fromkeys(paths))
    return GpuPassage(
        uuids=tuple(gpu.uuid for gpu in gpus), files=files, libraries=_gather_libraries(root, folder / "nvidia")
    )


def _device_file(root: Path, path: str) -> DeviceFile:
    try:
        found = os.stat(root / path)
    except OSError as error:
        raise GpuUnavailable(f"/{path}: {error.strerror}; is the driver loaded? try `nvidia-modprobe -u`") from error
    if not stat.S_ISCHR(found.st_mode):
        raise GpuUnavailable(f"/{path} is no device file")
    return DeviceFile(f"/{path}", os.major(found.st_rdev), os.minor(found.st_rdev))


def _capability_files(gpu: Gpu, root: Path) -> Iterable[str]:
    if gpu.instance is None:
        return
    place = root / f"proc/driver/nvidia/capabilities/gpu{gpu.minor}/mig/gi{gpu.instance[0]}"
    for access in (place / "access", place / f"ci{gpu.instance[1]}/access"):
        try:
            minor = re.search(r"DeviceFileMinor:\s*(\d+)", access.read_text("ascii", "replace"))
        except OSError as error:
            raise GpuUnavailable(f"{access}: {error.strerror}; the MIG instance {gpu.uuid} is gone") from error
        if minor:
            yield f"dev/nvidia-caps/nvidia-cap{minor[1]}"


def _gather_libraries(root: Path, folder: Path) -> Path:
    """The driver's libraries alone in one folder, under the names that programs ask for. Made once, then only read."""
    found: dict[str, Path] = {}
    for place in LIBRARY_FOLDERS:
        for path in sorted((root / place).glob("lib*.so.*")):
            if LIBRARIES.fullmatch(path.name):
                found.setdefault(path.name, path)
    if not any(name.startswith("libcuda.so") for name in found):
        raise GpuUnavailable("libcuda.so.1 is not installed: the driver's libraries for computing are missing")
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in found.items():
        target = folder / name
        if not target.exists() or target.stat().st_size != path.stat().st_size:
            draft = folder / f".{name}.{os.getpid()}"
            shutil.copyfile(path, draft)
            os.replace(draft, target)
    return folder
