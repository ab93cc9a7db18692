"""The kernel's account of each sandbox: what it used, whether it was killed for memory, and what of it is still there.

Used by `sandboxes`. runsc makes a sandbox's cgroup from the spec; this file reads it, changes its limits, kills
what is in it when runsc cannot, and removes what an earlier host left. Knows cgroup v1 (a hierarchy per controller)
and v2. Reads and writes only below its own parent group; the files are in memory, so every call takes microseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workers.sandbox.bundle import CPU_PERIOD_US, CgroupPlace, check_sandbox_id, cpu_time
from workers.sandbox.errors import NotPermitted
from workers.sandbox.limits import Limits

ROOT = Path("/sys/fs/cgroup")
EMPTY_TIMEOUT_S = 2.0
POLL_S = 0.002


@dataclass(frozen=True, kw_only=True)
class CgroupUsage:
    """What one sandbox has used so far. Zeros when its cgroup is not there."""

    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    memory_bytes: int = 0
    oom_kills: int = 0
    """How often the kernel killed something in it because its memory limit was reached."""


class Cgroups:
    """All groups of one host.

    `<root>/<controller>/sandpool/<name>/<sandbox>` (v1) or `<root>/sandpool/<name>/<sandbox>`.
    """

    def __init__(self, name: str, root: Path = ROOT) -> None:
        check_sandbox_id(name)
        self._root = root
        self._parent = f"sandpool/{name}"

    @cached_property
    def version(self) -> int:
        return 2 if (self._root / "cgroup.controllers").exists() else 1

    @cached_property
    def limits_swap(self) -> bool:
        """Whether this kernel can keep a sandbox from swapping."""
        return self.version == 2 or (self._hierarchy("memory") / "memory.memsw.limit_in_bytes").exists()

    def check(self) -> None:
        """Raises NotPermitted, with what to do, when memory, CPU time and processes cannot be limited here.

        Call it first: it finds out, once, what all other methods need to know of this machine.
        """
        if self.version == 2:
            missing = {"memory", "cpu", "pids"} - set(_text(self._root / "cgroup.controllers").split())
        else:
            missing = {name for name in ("memory", "cpu", "pids") if not self._hierarchy(name).is_dir()}
        if missing:
            hint = "enable these cgroup controllers for this machine or container"
            raise NotPermitted(
                f"sandboxes cannot be limited here, cgroup controllers missing: {sorted(missing)}", hint=hint
            )
        _ = self.limits_swap
        if not os.access(self._hierarchy("memory"), os.W_OK):
            raise NotPermitted(
                "the cgroups of this machine cannot be written", hint="run the host as root, cgroups not read-only"
            )

    def place(self, sandbox_id: str) -> CgroupPlace:
        """For `bundle.build_spec`."""
        return CgroupPlace(path=f"/{self._parent}/{sandbox_id}", swap=self.limits_swap)

    def usage(self, sandbox_id: str) -> CgroupUsage:
        group = self._group
        if self.version == 2:
            folder = group("", sandbox_id)
            return CgroupUsage(
                cpu_s=_keyed(folder / "cpu.stat", "usage_usec") / 1e6,
                peak_memory_bytes=_number(folder / "memory.peak"),
                memory_bytes=_number(folder / "memory.current"),
                oom_kills=_keyed(folder / "memory.events", "oom_kill"),
            )
        memory = group("memory", sandbox_id)
        return CgroupUsage(
            cpu_s=_number(group("cpuacct", sandbox_id) / "cpuacct.usage") / 1e9,
            peak_memory_bytes=_number(memory / "memory.max_usage_in_bytes"),
            memory_bytes=_number(memory / "memory.usage_in_bytes"),
            oom_kills=_keyed(memory / "memory.oom_control", "oom_kill"),
        )

    def set_limits(self, sandbox_id: str, limits: Limits) -> None:
        """Other limits than those it was started with: memory, CPU time, host processes.

        OSError when it uses more memory than that already.
        """
        quota_us, shares = cpu_time(limits)
        if self.version == 2:
            folder = self._group("", sandbox_id)
            used = _number(folder / "memory.current")
            if used > limits.memory_bytes:  # the kernel would take the limit, and kill
                raise OSError(errno.EBUSY, "it uses more memory than that")
            _write(folder / "memory.max", limits.memory_bytes)
            _write(folder / "cpu.max", f"{quota_us} {CPU_PERIOD_US}")
            _write(folder / "cpu.weight", 1 + (shares - 2) * 9999 // 262142)  # as runsc itself converts them
            _write(folder / "pids.max", limits.host_threads)
            return
        memory = self._group("memory", sandbox_id)
        names = ["memory.limit_in_bytes", *(["memory.memsw.limit_in_bytes"] if self.limits_swap else [])]
        if limits.memory_bytes > _number(memory / names[0]):
            names.reverse()  # memory alone is never allowed more than memory and swap together
        for name in names:
            _write(memory / name, limits.memory_bytes)
        cpu = self._group("cpu", sandbox_id)
        _write(cpu / "cpu.cfs_quota_us", quota_us)
        _write(cpu / "cpu.shares", shares)
        _write(self._group("pids", sandbox_id) / "pids.max", limits.host_threads)

    def pids(self, sandbox_id: str) -> list[int]:
        """Host processes of the sandbox: sentry, gofer and stubs."""
        folder = self._group("" if self.version == 2 else "pids", sandbox_id)
        return [int(line) for line in _text(folder / "cgroup.procs").split() if line != "0"]

    def leftovers(self) -> set[str]:
        """Every sandbox that has a group."""
        return {entry.name for folder in self._folders(self._parent) for entry in folder.iterdir() if entry.is_dir()}

    def kill(self, sandbox_id: str) -> None:
        """SIGKILL to every host process of the sandbox, once."""
        for pid in self.pids(sandbox_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_empty(self, sandbox_id: str) -> bool:
        """Until the last host process of the sandbox is gone; whether it is. Blocks up to EMPTY_TIMEOUT_S."""
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        while self.pids(sandbox_id):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def clear(self, sandbox_id: str) -> bool:
        """Kill what is in the group and remove it; whether nothing is left. Blocks up to EMPTY_TIMEOUT_S."""
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        while self._present(sandbox_id):
            self.kill(sandbox_id)
            for folder in self._folders(f"{self._parent}/{sandbox_id}"):
                with contextlib.suppress(OSError):  # busy until the last process is reaped
                    folder.rmdir()
            if time.monotonic() > deadline:
                return False
            if self._present(sandbox_id):
                time.sleep(POLL_S)
        return True

    def close(self) -> None:
        """Remove the parent groups where they are empty."""
        for path in (self._parent, "sandpool"):
            for folder in list(self._folders(path)):
                with contextlib.suppress(OSError):  # another host has groups there
                    folder.rmdir()

    def _present(self, sandbox_id: str) -> bool:
        return any(True for _ in self._folders(f"{self._parent}/{sandbox_id}"))

    def _hierarchy(self, controller: str) -> Path:
        if self.version == 2:
            return self._root
        if (self._root / controller).is_dir() or not self._root.is_dir():
            return self._root / controller
        # Some machines mount controllers together: `cpu,cpuacct`.
        shared = (entry for entry in self._root.iterdir() if controller in entry.name.split(","))
        return next(shared, self._root / controller)

    def _group(self, controller: str, sandbox_id: str) -> Path:
        return self._hierarchy(controller) / self._parent / sandbox_id

    def _folders(self, path: str) -> Iterator[Path]:
        """`path` in every hierarchy where it is there."""
        bases = [self._root] if self.version == 2 else [base for base in self._root.iterdir() if not base.is_symlink()]
        return (base / path for base in bases if (base / path).is_dir())


def _write(file: Path, value: int | str) -> None:
    file.write_text(str(value))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the group is gone, or this kernel has no such file
        return ""


def _number(file: Path) -> int:
    text = _text(file).strip()
    return int(text) if text.isdigit() else 0


def _keyed(file: Path, key: str) -> int:
    for line in _text(file).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0
