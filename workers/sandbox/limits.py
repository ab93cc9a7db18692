"""What one sandbox may use. A value, checked where it is made; `bundle` turns it into an OCI spec, hosts enforce the
rest.

Who enforces what: memory, CPU and host processes by the sandbox's own cgroup; processes and open files also by
resource limits inside (they fail softly there, before the cgroup has to kill); disk by the size of the in-memory file
systems; wall time and output by the host. To add a limit: a field with unit and range here, its use in `bundle` or the
host, a test in tests/sandbox that hits it, and a row in docs/images.md. Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from workers.sandbox.errors import SpecInvalid

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

SENTRY_THREADS = 512
"""Host threads that gVisor itself may need beside one per thread inside; more than ever seen, far below a bomb."""

_RANGES: dict[str, tuple[float, float]] = {
    "memory_bytes": (128 * MIB, 1024 * GIB),  # below that the sentry itself (about 60 MiB) hardly fits
    "cpus": (0.05, 256),
    "processes": (1, 32_768),
    "disk_bytes": (64 * KIB, 256 * GIB),
    "tmp_bytes": (64 * KIB, 256 * GIB),
    "shm_bytes": (64 * KIB, 64 * GIB),
    "open_files": (32, 65_536),
    "wall_s": (0.1, 7 * 86_400),
    "output_bytes": (1, 1 * GIB),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one sandbox. Raises SpecInvalid, naming the field, when one is out of its range."""

    memory_bytes: int = 512 * MIB
    """Everything the sandbox needs on the host: its processes, its files in memory and gVisor's own ~60 MiB."""
    cpus: float = 1.0
    """CPU time per wall time."""
    processes: int = 128
    """Processes and threads inside, together. A process costs the host about 5 MiB, beside its own memory."""
    disk_bytes: int = 256 * MIB
    """Files under the home folder. They live in memory and count against `memory_bytes` too."""
    tmp_bytes: int = 64 * MIB
    """Files under /tmp; in memory as well."""
    shm_bytes: int = 16 * MIB
    """Shared memory under /dev/shm."""
    open_files: int = 1024
    """File descriptors of one process."""
    wall_s: float = 300.0
    """Seconds from start to end."""
    output_bytes: int = 1 * MIB
    """Bytes of stdout and stderr together that one command may write."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int | float = getattr(self, field.name)
            lowest, highest = _RANGES[field.name]
            whole = field.type == "int"
            is_number = isinstance(value, int) or (isinstance(value, float) and not whole)
            if isinstance(value, bool) or not is_number or not lowest <= value <= highest:
                kind = "a whole number" if whole else "a number"
                raise SpecInvalid(f"limits.{field.name}", f"{kind} from {lowest:g} to {highest:g}, not {value!r}")

    @property
    def host_threads(self) -> int:
        """Limit of the cgroup's pid controller.

        GVisor keeps a host thread for each thread inside, and some of its own.
        """
        return 2 * self.processes + SENTRY_THREADS

    def capped_by(self, ceiling: Limits) -> Limits:
        """These limits, none above the ceiling's."""
        return replace(self, **{f.name: min(getattr(self, f.name), getattr(ceiling, f.name)) for f in fields(self)})

    def within(self, ceiling: Limits) -> bool:
        return self.capped_by(ceiling) == self

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises SpecInvalid for a name that is no limit."""
        for name in values:
            if name not in _RANGES:
                raise SpecInvalid(f"limits.{name}", f"no such limit; there are: {', '.join(_RANGES)}")
        return cls(**values)
