"""The audit trail of one door: each statement with its printed text, rule, rows, bytes, time and SQLSTATE, as JSON
lines.

Objects of a volume cannot be appended to, so a trail is a row of objects, each created once and never changed:
`<tenant>/<owner>/audit-<trail>-00000.jsonl` and so on, beside the job's manifest. Written by the broker's ticker, never
on a statement's way; parameters are not recorded. Bounded: after `MOST_BYTES` only the sum at the end follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from workers.errors import WorkerError
from workers.sql.broker.prepared import Ruling
from workers.sql.policy.session import Forward, Own, Refuse

MOST_BYTES = 64 << 20
MOST_PENDING_BYTES = 8 << 20
"""Not written yet, because the volume is slow or away; above it, records are counted only."""
CHUNK_BYTES = 512 << 10
FLUSH_S = 5.0
MOST_TEXT = 16_384
"""Characters of a text that are kept."""

Write = Callable[[int, bytes], Awaitable[object]]
"""Create the object with this number."""


class Entry(msgspec.Struct, omit_defaults=True):
    """One line."""

    at: float
    """Seconds since 1970, when it ended."""
    text: str
    sql: str = ""
    """What ran, where it is not the text itself."""
    rule: str = ""
    """The rule that refused it."""
    tag: str = ""
    rows: int = 0
    bytes: int = 0
    ms: float = 0.0
    sqlstate: str = ""


class Sum(msgspec.Struct):
    """The last line."""

    at: float
    statements: int
    refused: int
    failed: int
    omitted: int
    """Statements of which no line was kept."""
    bytes: int
    ms: float


class Trail:
    """Records of one door. `write` None: nothing is kept but the sum."""

    def __init__(self, write: Write | None = None) -> None:
        self._write = write
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._kept_bytes = 0
        self._number = 0
        self._flushed_s = time.monotonic()
        self._flushing = asyncio.Lock()
        self._encoder = msgspec.json.Encoder()
        self.sum = Sum(0.0, 0, 0, 0, 0, 0, 0.0)

    def ran(self, ruling: Ruling, tag: bytes, sqlstate: str, size_bytes: int, run_s: float) -> None:
        """A statement ended, with its command tag or with a SQLSTATE."""
        total = self.sum
        total.statements += 1
        total.bytes += size_bytes
        total.ms += run_s * 1000
        if sqlstate:
            total.failed += 1
        verdict = ruling.verdict
        sql = verdict.sql if isinstance(verdict, Forward | Own) else ""
        count = tag[tag.rfind(b" ") + 1 :]
        self._add(
            Entry(
                time.time(),
                ruling.text,
                "" if sql == ruling.text else sql,
                "",
                tag.decode("utf-8", "replace"),
                int(count) if count.isdigit() else 0,
                size_bytes,
                round(run_s * 1000, 3),
                sqlstate,
            ),
            len(ruling.text) + len(sql) + 120,
        )

    def refused(self, ruling: Ruling, refuse: Refuse) -> None:
        """The policy refused a statement."""
        self.sum.statements += 1
        self.sum.refused += 1
        self._add(Entry(time.time(), ruling.text, rule=refuse.rule, sqlstate=refuse.sqlstate), len(ruling.text) + 120)

    @property
    def is_due(self) -> bool:
        """Something should be written now."""
        if not self._pending or self._flushing.locked():
            return False
        return self._pending_bytes > CHUNK_BYTES or time.monotonic() - self._flushed_s > FLUSH_S

    async def flush(self, *, is_last: bool = False) -> None:
        """Write what is pending; when the volume does not take it now, it is tried again later."""
        if self._write is None:
            return
        async with self._flushing:
            entries, self._pending = self._pending, []
            size_bytes, self._pending_bytes = self._pending_bytes, 0
            self._flushed_s = time.monotonic()
            lines = b"".join(self._encoder.encode(entry) + b"\n" for entry in entries)
            if is_last:
                self.sum.at = time.time()
                lines += self._encoder.encode({"sum": self.sum}) + b"\n"
            if not lines:
                return
            try:
                await self._write(self._number, lines)
            except WorkerError:
                self._pending[:0] = entries
                self._pending_bytes += size_bytes
                return
            self._number += 1
            self._kept_bytes += len(lines)

    def _add(self, entry: Entry, size_bytes: int) -> None:
        if self._write is None:
            return
        if self._kept_bytes + self._pending_bytes > MOST_BYTES or self._pending_bytes > MOST_PENDING_BYTES:
            self.sum.omitted += 1
            return
        if size_bytes > MOST_TEXT:
            entry.text, entry.sql = entry.text[:MOST_TEXT], entry.sql[:MOST_TEXT]
        self._pending.append(entry)
        self._pending_bytes += size_bytes
