"""NVIDIA's management library for machines without a GPU: compiled from C, so that the real binding calls it."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30


def build_fake_nvml(folder: Path) -> Path:
    """The folder to put on LD_LIBRARY_PATH."""
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE)], check=True)
    return folder


def script(*gpus: dict[str, object], **general: object) -> str:
    """What the fake reads: facts of each GPU by their key, `fail_FUNCTION=CODE` and the like beside them."""
    lines = [f"count {len(gpus)}"] if "count" not in general else []
    lines += [f"{key.replace('_', '.', 1)} {value}" for key, value in general.items()]
    lines += [f"{index}.{key} {value}" for index, gpu in enumerate(gpus) for key, value in gpu.items()]
    return "".join(f"{line}\n" for line in lines)


def h100(number: int, **changed: object) -> dict[str, object]:
    """One H100 in good order."""
    return {
        "uuid": f"GPU-00000000-0000-0000-0000-{number:012}",
        "name": "NVIDIA H100 80GB HBM3",
        "minor": number,
        "total": 80 * GIB,
        "free": 79 * GIB,
        "utilisation": 7,
        "temperature": 41,
        "ecc": 0,
        "mode": 0,
        **changed,
    }
