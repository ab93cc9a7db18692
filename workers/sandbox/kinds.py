"""Decides which sandboxes are interchangeable before anybody has used them, and which deserve a snapshot. Pure.

Called by `host` and `warm`. Memory, CPU time and host processes are limits of the cgroup and are set when a sandbox is
handed out. Sizes of file systems and resource limits inside are part of what a snapshot saves: sandboxes that differ in
them are of different kinds, each with a snapshot and a warm pool of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from workers.sandbox.image import Image
from workers.sandbox.limits import GIB, MIB, Limits

PREFIX = "warm-"
"""Of the names of warm snapshots."""
TEMPLATE_MEMORY_BYTES = 2 * GIB
"""For imports before a snapshot."""
FRESH_MEMORY_BYTES = 512 * MIB
"""Of a sandbox that nobody has used yet, until its limits are set."""


FIXED = ("processes", "disk_bytes", "tmp_bytes", "shm_bytes", "open_files")
"""The limits that are part of what a snapshot saves."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What a snapshot fixes. `image` is the digest."""

    image: str
    processes: int
    disk_bytes: int
    tmp_bytes: int
    shm_bytes: int
    open_files: int

    def digest(self) -> str:
        """12 hex digits."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


def kind_of(image: Image, limits: Limits) -> Kind:
    return Kind(image.digest, *(getattr(limits, name) for name in FIXED))


def fresh_limits(image: Image, kind: Kind, cpus: float) -> Limits:
    """Of a sandbox of this kind until it is handed out: starting may use all CPUs of the host, memory is bounded."""
    return _limits(image, kind, FRESH_MEMORY_BYTES, cpus)


def template_limits(image: Image, kind: Kind, cpus: float) -> Limits:
    """Of the sandbox that imports what the image names and is saved then."""
    return _limits(image, kind, TEMPLATE_MEMORY_BYTES, cpus)


def _limits(image: Image, kind: Kind, memory_bytes: int, cpus: float) -> Limits:
    ceiling = image.ceiling
    return replace(
        ceiling,
        memory_bytes=min(memory_bytes, ceiling.memory_bytes),
        cpus=min(cpus, ceiling.cpus),
        **{name: getattr(kind, name) for name in FIXED},
    )


def starting_limits(image: Image, limits: Limits, cpus: float) -> Limits:
    """Of a sandbox that comes back with these limits: until they are set, it may use all CPUs."""
    return replace(limits, cpus=min(cpus, image.ceiling.cpus))


def deserves_snapshot(kind: Kind, image: Image, uses: int) -> bool:
    """At its first use where nothing unusual is asked for; an odd kind only when it comes again."""
    usual = kind_of(image, Limits().capped_by(image.ceiling))
    return kind == usual or uses > 1


def snapshot_name(runner: str, machine: str, kind: Kind) -> str:
    """`runner`: digest of the runner's code, which is in the saved memory. `machine`: digest of the SnapshotKey."""
    return f"{PREFIX}{runner[:8]}-{machine[:16]}-{kind.digest()}"


def is_stale(name: str, runner: str) -> bool:
    """Whether a warm snapshot was made with another runner: nobody can ever use it."""
    return name.startswith(PREFIX) and not name.startswith(f"{PREFIX}{runner[:8]}-")


def kinds_to_drop(used_at_s: Mapping[Kind, float], most: int) -> list[Kind]:
    """The kinds that were not used for longest, so that `most` remain: each has a snapshot on disk."""
    newest_first = sorted(used_at_s, key=lambda kind: (-used_at_s[kind], kind))
    return newest_first[most:]
