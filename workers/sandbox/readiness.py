"""Can this machine run sandboxes? Looks, changes nothing. Called before a host is started, by `up` and by tests.

What only shows when a host opens (cgroups that cannot be written, a runsc that does not run) is said then, typed.
"""

from __future__ import annotations

import os
import shutil

import msgspec

from workers.sandbox.hosting import HostSpec

CPU_FACTOR = 4
"""CPUs promised for each that is there: most code waits most of the time."""


def why_not(runsc: str = "runsc") -> str:
    """One line with what to do; empty when a host may be started."""
    if os.geteuid() != 0:
        return "no sandboxes: not root; run the cluster as root, which gVisor's cgroups and mounts need"
    if shutil.which(runsc) is None:
        return (
            "no sandboxes: runsc is not installed; run `make setup` as root, or see gvisor.dev/docs/user_guide/install"
        )
    return ""


def sized(spec: HostSpec) -> HostSpec:
    """The spec with this machine's own memory and CPUs where it leaves them open (0)."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return msgspec.structs.replace(
        spec,
        memory_bytes=spec.memory_bytes or machine_bytes // 2,
        cpus=spec.cpus or CPU_FACTOR * float(os.cpu_count() or 1),
    )
