"""Decides what a sandbox may see and do: (image, limits, mounts, command) -> OCI runtime specification. Pure.

Called by `sandboxes`, which writes the result to disk for runsc. What holds for every sandbox, whatever is asked for:

* the root file system is read-only, without an overlay: an overlay of this runsc has no size limit and a user who is
  not root could not write there anyway. What may be written are file systems in memory, each with a size limit;
* no capability in any set, a user other than root, no new privileges, no core dumps;
* every namespace of its own; no network but loopback (runsc is started with `--network=none`);
* nothing of the host is mounted but what the caller names, at one of five fixed places, read-only unless asked for;
* no device of the host, but the files of exactly those GPUs that the sandbox was given.

Why fixed places: runsc makes missing mount points *in the image on the host*, so they must exist in every image.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.gpu.passage import LIBRARIES_AT, GpuPassage
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.image import Image
from workers.sandbox.limits import MIB, Limits

MOUNT_POINTS = ("/in", "/out", "/run/sandpool", "/opt/sandpool", LIBRARIES_AT)
"""Inputs, outputs, the host's socket, the runner, the libraries of GPUs. Every image has these folders, empty."""

TMP = "/tmp"  # noqa: S108 - inside the sandbox
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED_PATHS = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/sentry-meminfo", "/proc/cgroups"),
    *("/sys/firmware", "/sys/devices", "/sys/fs", "/sys/kernel", "/sys/class"),
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CPU_PERIOD_US = 100_000
MAX_ARGUMENTS, MAX_COMMAND_BYTES = 4096, 128 * 1024

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A folder or file of the host inside the sandbox. Raises SpecInvalid for any other place than MOUNT_POINTS."""

    source: Path
    target: str
    writable: bool = False

    def __post_init__(self) -> None:
        if self.target not in MOUNT_POINTS:
            raise SpecInvalid("mounts.target", f"{self.target!r} is none of {', '.join(MOUNT_POINTS)}")
        if not self.source.is_absolute() or ".." in self.source.parts or len(self.source.parts) < 3:
            raise SpecInvalid("mounts.source", "an absolute path without `..`, at least two folders deep")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to start inside. Raises SpecInvalid when it could not be started as it is."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the image's own."""
    cwd: str | None = None
    """None: the image's home."""

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise SpecInvalid("command.argv", "at least the program")
        if len(self.argv) > MAX_ARGUMENTS:
            raise SpecInvalid("command.argv", f"at most {MAX_ARGUMENTS} arguments")
        texts = [*self.argv, *self.env.values(), self.cwd or ""]
        if any("\0" in text for text in texts):
            raise SpecInvalid("command", "no NUL characters")
        if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) > MAX_COMMAND_BYTES:
            raise SpecInvalid(
                "command", f"arguments and environment of at most {MAX_COMMAND_BYTES} bytes; use a file in /in"
            )
        for name in self.env:
            if not _VARIABLE.fullmatch(name):
                raise SpecInvalid("command.env", f"{name[:80]!r} is no name of a variable")
        if self.cwd is not None and not self.cwd.startswith("/"):
            raise SpecInvalid("command.cwd", "an absolute path")


@dataclass(frozen=True, kw_only=True)
class CgroupPlace:
    """Where the sandbox's cgroup goes and what this kernel can limit there."""

    path: str
    """Below the root of every controller, for example `/sandpool/node/<id>`."""
    swap: bool = True
    """Swap can be limited (v1: memory.memsw.* exists; v2: memory.swap.max exists)."""


def check_sandbox_id(sandbox_id: str) -> None:
    """Raises SpecInvalid unless it can name a sandbox: it becomes part of paths and of command lines."""
    if not _ID.fullmatch(sandbox_id):
        raise SpecInvalid("id", "1 to 63 of a-z 0-9 -, starting with a letter or digit")


def check_limits(image: Image, limits: Limits) -> None:
    """Raises SpecInvalid, naming the first limit that is above what the image may ask for."""
    if not limits.within(image.ceiling):
        over = [name for name, value in limits.as_dict().items() if value > getattr(image.ceiling, name)]
        raise SpecInvalid(f"limits.{over[0]}", f"image {image.name} allows at most {getattr(image.ceiling, over[0]):g}")


def build_spec(
    image: Image,
    limits: Limits,
    command: Command,
    mounts: Iterable[Bind],
    cgroup: CgroupPlace,
    gpus: GpuPassage | None = None,
) -> dict[str, Any]:
    """The whole config.json of one sandbox. Raises SpecInvalid when the image does not allow these limits.

    With `gpus`, runsc has to be given their `RUNSC_FLAGS`, and their libraries mounted like anything else.
    """
    check_limits(image, limits)
    binds = list(mounts)
    targets = [bind.target for bind in binds]
    if len(set(targets)) != len(targets):
        raise SpecInvalid("mounts", "two mounts at one place")
    return {
        "ociVersion": "1.0.2",
        "hostname": "sandpool",
        "root": {"path": str(image.rootfs), "readonly": True},
        "process": build_process(image, limits, command, gpus),
        "mounts": [*_own_mounts(image, limits), *map(_bind_mount, binds)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "cgroupsPath": cgroup.path,
            "resources": _resources(limits, cgroup, gpus),
            **({"devices": gpus.devices(image.uid, image.gid)} if gpus else {}),
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def cpu_time(limits: Limits) -> tuple[int, int]:
    """Quota in each period of CPU_PERIOD_US, and shares where there is not enough for all."""
    return max(1000, int(limits.cpus * CPU_PERIOD_US)), max(2, int(limits.cpus * 1024))


def build_process(image: Image, limits: Limits, command: Command, gpus: GpuPassage | None = None) -> dict[str, Any]:
    """The process part: of the spec, and (as a file of its own) of `runsc exec`."""
    own = {
        "PATH": PATH,
        "HOME": image.home,
        "USER": "sandpool",
        "TMPDIR": TMP,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # Last what tells of GPUs: a job that names others would only be told of devices which are not there.
    environment = {**own, **image.env, **command.env, **(gpus.environment() if gpus else {})}
    return {
        "terminal": False,
        "user": {"uid": image.uid, "gid": image.gid, "additionalGids": []},
        "args": list(command.argv),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": command.cwd or image.home,
        "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": True,
        "oomScoreAdj": 1000,
        "rlimits": _rlimits(limits),
    }


def _rlimits(limits: Limits) -> list[dict[str, Any]]:
    values = {
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 64 * 1024,
        "RLIMIT_FSIZE": max(limits.disk_bytes, limits.tmp_bytes),
    }
    return [{"type": kind, "hard": value, "soft": value} for kind, value in values.items()]


def _own_mounts(image: Image, limits: Limits) -> list[dict[str, Any]]:
    owner = f"uid={image.uid},gid={image.gid}".split(",")
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        _memory_mount("/dev", MIB, ["nosuid", "noexec", "mode=0755"]),
        _memory_mount("/dev/shm", limits.shm_bytes, ["nosuid", "nodev", "noexec", "mode=1777"]),  # noqa: S108
        _memory_mount(TMP, limits.tmp_bytes, ["nosuid", "nodev", "mode=1777"]),
        _memory_mount(image.home, limits.disk_bytes, ["nosuid", "nodev", "mode=0700", *owner]),
    ]


def _memory_mount(target: str, size_bytes: int, options: Sequence[str]) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": [*options, f"size={size_bytes // 1024}k"],
    }


def _bind_mount(bind: Bind) -> dict[str, Any]:
    options = ["bind", "nosuid", "nodev", "rw" if bind.writable else "ro"]
    return {
        "destination": bind.target,
        "type": "bind",
        "source": posixpath.normpath(str(bind.source)),
        "options": options,
    }


def _resources(limits: Limits, cgroup: CgroupPlace, gpus: GpuPassage | None) -> dict[str, Any]:
    memory: dict[str, int] = {"limit": limits.memory_bytes}
    quota_us, shares = cpu_time(limits)
    if cgroup.swap:
        memory["swap"] = limits.memory_bytes  # memory and swap together: no swap at all
    return {
        "memory": memory,
        "cpu": {"period": CPU_PERIOD_US, "quota": quota_us, "shares": shares},
        "pids": {"limit": limits.host_threads},
        "devices": [{"allow": False, "access": "rwm"}, *(gpus.rules() if gpus else ())],
    }
