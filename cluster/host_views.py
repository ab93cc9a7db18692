"""One host as placement sees it: what it says of itself, and what was placed there since. Pure but for counting.

Called by both benches. A host's own account lags behind (it is asked once a second), the scheduler's claims know
nothing of sandboxes that people keep: whichever is more counts. The host has the last word anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.placement import HostView
from workers.sandbox.hosting import HostStatus
from workers.sandbox.limits import Limits

STARTING = "it is starting"


@dataclass(slots=True)
class Claims:
    """What tasks under way were placed with."""

    limits: dict[str, Limits] = field(default_factory=dict)
    """By attempt."""

    @property
    def memory_bytes(self) -> int:
        return sum(each.memory_bytes for each in self.limits.values())

    @property
    def cpus(self) -> float:
        return sum(each.cpus for each in self.limits.values())


def view_of(status: HostStatus, claims: Claims, *, answers: bool = True) -> HostView:
    """The host now."""
    return HostView(
        cpus=status.cpus,
        memory_bytes=status.memory_bytes,
        reserved_cpus=max(status.reserved_cpus, claims.cpus),
        reserved_bytes=max(status.reserved_bytes, claims.memory_bytes),
        sandboxes=max(status.sandboxes, len(claims.limits)),
        most_sandboxes=status.most_sandboxes,
        images=frozenset(_refs(status)),
        warm=_by_name(status.warm),
        unwell="" if answers and status.open else "it does not answer" if not answers else STARTING,
    )


def _refs(status: HostStatus) -> set[str]:
    """Every way in which a job may name an image: also by a digest cut short."""
    cut = {f"{name}@{digest[:12]}" for name, _, digest in (ref.partition("@") for ref in status.images) if digest}
    return {*status.images, *cut}


def _by_name(warm: dict[str, int]) -> dict[str, int]:
    """Jobs mostly name the image alone."""
    found = dict(warm)
    for ref, count in warm.items():
        name = ref.partition("@")[0]
        found[name] = found.get(name, 0) + count
    return found
