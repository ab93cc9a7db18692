"""Decides whether one more sandbox fits on a host. Pure; called by `host` for every lease and every kept sandbox.

What a sandbox may use is promised when it is handed out and counted in full until it is gone: nothing is handed out
twice. Warm sandboxes are not counted here, they have a budget of their own (`demand`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workers.sandbox.limits import MIB, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a host has, or what of it is promised."""

    memory_bytes: int = 0
    cpus: float = 0.0
    sandboxes: int = 0


def promised(limits: Iterable[Limits]) -> Capacity:
    """What sandboxes with these limits have been promised, together."""
    each = list(limits)
    memory_bytes = sum(one.memory_bytes for one in each)
    return Capacity(memory_bytes=memory_bytes, cpus=sum(one.cpus for one in each), sandboxes=len(each))


def why_never(total: Capacity, wanted: Limits) -> str:
    """Why these limits are too much even for the empty host; empty when they are not."""
    if wanted.memory_bytes > total.memory_bytes:
        return f"this host has {total.memory_bytes // MIB} MiB for sandboxes, not {wanted.memory_bytes // MIB}"
    if wanted.cpus > total.cpus:
        return f"this host has {total.cpus:g} CPUs for sandboxes, not {wanted.cpus:g}"
    return ""


def why_full(total: Capacity, taken: Capacity, wanted: Limits) -> str:
    """Why one more does not fit beside what is taken; empty when it fits."""
    if taken.sandboxes + 1 > total.sandboxes:
        return f"all {total.sandboxes} sandboxes of this host are in use"
    free_bytes = total.memory_bytes - taken.memory_bytes
    if wanted.memory_bytes > free_bytes:
        return f"{free_bytes // MIB} MiB of memory are free on this host, {wanted.memory_bytes // MIB} are wanted"
    free_cpus = total.cpus - taken.cpus
    if wanted.cpus > free_cpus + 1e-9:  # sums of fractions
        return f"{max(0.0, free_cpus):g} CPUs are free on this host, {wanted.cpus:g} are wanted"
    return ""
