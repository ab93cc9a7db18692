"""Decides how many warm sandboxes of each kind to keep ahead of demand. Pure; `host` asks, `pool` carries it out.

The target of a kind doubles when somebody finds its pool empty, and halves after `idle_s` in which its last spare
sandbox was not needed; where nobody asks at all it goes down to nothing. What is granted of all targets together stays
within a budget of memory: the kinds used last come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from workers.sandbox.kinds import Kind
from workers.sandbox.limits import GIB, MIB

ASSUMED_BYTES = 128 * MIB
"""Of a kind of which none was measured yet."""


class WarmSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be spent on sandboxes that nobody asked for yet."""

    memory_bytes: int = 1 * GIB
    """All warm sandboxes of the host together. 0: none are kept."""
    most: int = 8
    """Of one kind."""
    idle_s: float = 60.0
    """Unused for so long, a kind's target halves."""
    most_kinds: int = 8
    """Kinds with a snapshot on disk; the one unused for longest gives way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is known of one kind: times are seconds of a monotonic clock."""

    target: int = 0
    used_at_s: float = 0.0
    changed_at_s: float = 0.0
    """When the target changed, or all spare ones were last in use."""


def after_take(demand: Demand, now_s: float, *, spare: int, spec: WarmSpec) -> Demand:
    """Somebody wanted one when `spare` were there."""
    if spare == 0:
        target = min(max(1, 2 * demand.target), spec.most)
        return Demand(target=target, used_at_s=now_s, changed_at_s=now_s)
    if spare == 1:  # the last one: as many as there are were needed
        return replace(demand, used_at_s=now_s, changed_at_s=now_s)
    return replace(demand, used_at_s=now_s)


def after_idle(demand: Demand, now_s: float, spec: WarmSpec) -> Demand:
    """Time has passed. Half as many when fewer would have done for `idle_s`; whoever is used at all keeps one."""
    if demand.target == 0 or now_s - demand.changed_at_s < spec.idle_s:
        return demand
    used = now_s - demand.used_at_s < spec.idle_s
    return replace(demand, target=max(demand.target // 2, 1 if used else 0), changed_at_s=now_s)


def allot(demands: Mapping[Kind, Demand], each_bytes: Mapping[Kind, int], spec: WarmSpec) -> dict[Kind, int]:
    """How many of each kind to keep: one for every kind that wants one, newest first, then the others in turn."""
    left_bytes = spec.memory_bytes
    granted = dict.fromkeys(demands, 0)
    newest_first = sorted(demands, key=lambda kind: (-demands[kind].used_at_s, kind))
    for round_number in range(max((demand.target for demand in demands.values()), default=0)):
        for kind in newest_first:
            cost_bytes = max(1, each_bytes.get(kind, ASSUMED_BYTES))
            if demands[kind].target > round_number and cost_bytes <= left_bytes and granted[kind] == round_number:
                granted[kind] += 1
                left_bytes -= cost_bytes
    return granted
