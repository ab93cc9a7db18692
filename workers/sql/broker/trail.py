"""The record of one identity: what ran, and how it ended. Kept as counts until the job's end."""

from __future__ import annotations

from workers.sql.broker.prepared import Ruling


class Trail:
    """Records of one door."""

    def __init__(self) -> None:
        self.count = self.errors = self.size_bytes = 0
        self.run_s = 0.0

    def ran(self, ruling: Ruling, tag: bytes, sqlstate: str, size_bytes: int, run_s: float) -> None:  # noqa: ARG002
        """A statement ended, with its command tag or with a SQLSTATE."""
        self.count += 1
        self.errors += bool(sqlstate)
        self.size_bytes += size_bytes
        self.run_s += run_s
