"""What a job may ask of the sandbox it runs in: limits and a graphics card. Values only, checked where they are made.

None means the cluster's default for the image. A job never gets more than its image and its tenant allow; asking for
more is answered `Denied`, with the ceiling.
"""

from __future__ import annotations

import msgspec

from sandpool.job.fields import check_texts, check_types, require

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_RANGES: dict[str, tuple[float, float]] = {
    "memory_bytes": (128 * _MIB, 1024 * _GIB),
    "cpus": (0.05, 256),
    "processes": (1, 32_768),
    "disk_bytes": (64 * _KIB, 256 * _GIB),
    "tmp_bytes": (64 * _KIB, 256 * _GIB),
    "shm_bytes": (64 * _KIB, 64 * _GIB),
    "open_files": (32, 65_536),
    "output_bytes": (1, _GIB),
    "files": (0, 100_000),
    "files_bytes": (0, 256 * _GIB),
}


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one sandbox; its time limit is the job's `timeout_s`. Raises InvalidJob for one out of its range."""

    memory_bytes: int | None = None
    """Everything the sandbox needs: its processes, its files in memory and some 60 MiB of gVisor's own."""
    cpus: float | None = None
    processes: int | None = None
    """Processes and threads inside, together."""
    disk_bytes: int | None = None
    """Files in the home folder; they live in memory and count against `memory_bytes` too."""
    tmp_bytes: int | None = None
    shm_bytes: int | None = None
    open_files: int | None = None
    output_bytes: int | None = None
    """stdout and stderr together; more ends the job OutputCapped."""
    files: int | None = None
    """Most output files; more ends the job OutputCapped."""
    files_bytes: int | None = None
    """Most bytes of output files together; more ends the job OutputCapped."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            is_number = isinstance(value, int if name != "cpus" else int | float) and not isinstance(value, bool)
            kind = "a number" if name == "cpus" else "a whole number"
            require(
                is_number and lowest <= value <= highest,
                f"limits.{name}",
                f"{kind} from {lowest:g} to {highest:g}, or None, not {value!r}",
            )
        if self.cpus is not None:
            # As it comes back from the wire: both ends must find the same digest of the work.
            msgspec.structs.force_setattr(self, "cpus", float(self.cpus))


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Graphics cards that a job needs. Raises InvalidJob for a value out of its range."""

    count: int = 1
    memory_bytes: int = 0
    """Free memory that each of them must have."""
    model: str = ""
    """Part of the model's name, for example `A100`; empty: any."""
    mig: str = ""
    """Profile of a MIG slice, for example `1g.5gb`; empty: whole cards."""

    def __post_init__(self) -> None:
        check_types(self, "gpu.")
        require(1 <= self.count <= 64, "gpu.count", "1 to 64")
        require(0 <= self.memory_bytes <= 1024 * _GIB, "gpu.memory_bytes", "0 to 1 TiB")
        for field in ("model", "mig"):
            if text := getattr(self, field):
                check_texts([text], f"gpu.{field}", most=1, longest=64)
