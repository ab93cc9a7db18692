"""What one object of a listing looks like. Data only; shared by every kind of volume and by the sweeper."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime
