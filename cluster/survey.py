"""What workers say of themselves, all of them at one moment: for the metrics, and for whoever asks how things stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.sandbox.hosting import HostStatus
from workers.sql.pool import PoolStatus


@dataclass(frozen=True, slots=True)
class Survey:
    """Those that answered; who did not is missing."""

    pools: Mapping[tuple[str, str], PoolStatus] = field(default_factory=dict)
    """By node and database."""
    hosts: Mapping[str, HostStatus] = field(default_factory=dict)
    """By node."""
