"""The machine and the versions that a table of results was measured with, in one line. Called by
`benchmarks.__main__`.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "ray",
    "asyncpg",
    "aio-pika",
    "adbc-driver-postgresql",
    "sqlglot",
    "pyarrow",
    "celery",
    "taskiq",
    "connectorx",
)


def describe_machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{_distribution()}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {cpu}, {memory_gib:.0f} GiB, {system}, {_now()}"


def describe_filesystem(folder: Path) -> str:
    """Where results lie: "ext4 with a journal", "xfs", ...; small results are mostly made of new files."""
    mounts = [line.split()[:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    below = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    _, point, kind = max(below, key=lambda mount: len(mount[1]))
    if kind != "ext4":
        return kind
    number = Path(point).stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    return f"ext4 {'with' if list(Path('/proc/fs/jbd2').glob(f'{device}-*')) else 'without'} a journal"


def _now() -> str:
    # Who else was busy: figures of a loaded machine are not to be quoted.
    return f"{datetime.now(UTC):%Y-%m-%d}, load average before the run {os.getloadavg()[0]:.1f}"


def describe_versions(services: str) -> str:
    return ", ".join([*([services] if services else []), *(f"{name} {_version(name)}" for name in PACKAGES)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release.get('NAME', 'Linux').split()[0]} {release.get('VERSION_ID', '')}".strip()
