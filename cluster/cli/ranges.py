"""Spans of time as people write and read them: `90s`, `2h`, `12 ms`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def parse_moment(text: str, now: datetime) -> datetime:
    """`2h` (before now), or an ISO 8601 date or moment (without a zone: UTC). Raises ValueError."""
    if span := _SPAN.fullmatch(text.strip()):
        return now - timedelta(seconds=float(span[1]) * _UNITS_S[span[2]])
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no span like 90s, 15m, 2h, 7d and no ISO 8601 moment") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def span_text(seconds: float) -> str:
    """Short, with a unit: `840 us`, `12.3 ms`, `4.20 s`, `3 min 20 s`, `5 h 10 min`, `3 d 4 h`."""
    if seconds < 0.001:
        return f"{max(0.0, seconds) * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else "1.00 s"
    if seconds < 59.995:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_s, unit, part_s, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
