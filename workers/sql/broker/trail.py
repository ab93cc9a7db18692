"""The audit trail of one door: each statement with its printed text, rule, rows, bytes, time and SQLSTATE, as JSON
lines.

Objects of a volume cannot be appended to, so a trail is a row of objects, each created once and never changed:
`<tenant>/<owner>/audit-<trail>-00000.jsonl` and so on, beside the job's manifest. Written by the broker's ticker, never
on a statement's way; parameters are not recorded. Bounded: after `MOST_BYTES` only the sum at the end follows.
"""

from __future__ import annotations

import asyncio
import re
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
_PLAIN_TAG = re.compile(rb"[A-Z ]+ [0-9]{1,18}")

Write = Callable[[int, bytes], Awaitable[object]]
"""Create the object with this number."""


class Entry(msgspec.Struct, omit_defaults=True):
    """What a line holds behind `text`, and `sql` where what ran is not the text itself. A command with a tag has `rows`
    as well."""

    at: float
    """Seconds since 1970, when it ended."""
    rule: str = ""
    """The rule that refused it."""
    tag: str = ""
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


Record = tuple[float, Ruling, bytes, int, float, str, str]
"""When it ended (monotonic), ruling, command tag, bytes, seconds, SQLSTATE, the rule that refused it."""


class Trail:
    """Records of one door. `write` None: nothing is kept but the sum."""

    def __init__(self, write: Write | None = None) -> None:
        self._write = write
        self._pending: list[Record] = []
        self._pending_bytes = 0
        self._room_bytes = MOST_PENDING_BYTES
        """Most bytes that may be pending now."""
        self._lines = b""
        """Written already as lines, but not into the volume: it did not take them yet."""
        self._kept_bytes = 0
        self._number = 0
        self._flushed_s = time.monotonic()
        self._flushing = asyncio.Lock()
        self._encoder = msgspec.json.Encoder()
        self.sum = Sum(0.0, 0, 0, 0, 0, 0, 0.0)

    def ran(self, ruling: Ruling, tag: bytes, sqlstate: str, size_bytes: int, run_s: float, ended_s: float) -> None:
        """A statement ended, with its command tag or with a SQLSTATE. On every statement's way: it becomes a line
        later."""
        self._pending.append((ended_s, ruling, tag, size_bytes, run_s, sqlstate, ""))
        self._pending_bytes += ruling.record_bytes
        if self._pending_bytes > self._room_bytes:
            self._omit()

    def refused(self, ruling: Ruling, refuse: Refuse) -> None:
        """The policy refused a statement."""
        self._pending.append((time.monotonic(), ruling, b"", 0, 0.0, refuse.sqlstate, refuse.rule))
        self._pending_bytes += ruling.record_bytes
        if self._pending_bytes > self._room_bytes:
            self._omit()

    @property
    def is_due(self) -> bool:
        """Something should be written now."""
        if not (self._pending or self._lines) or self._flushing.locked():
            return False
        return self._pending_bytes > CHUNK_BYTES or time.monotonic() - self._flushed_s > FLUSH_S

    async def flush(self, *, is_last: bool = False) -> None:
        """Write what is pending; when the volume does not take it now, it is tried again later."""
        async with self._flushing:
            self._flushed_s = time.monotonic()
            if self._lines and not await self._put(self._lines) and not is_last:
                return
            entries, self._pending = self._pending, []
            self._pending_bytes = 0
            offset_s = time.time() - time.monotonic()
            lines = b"".join([self._line(record, offset_s) for record in entries])
            if is_last:
                self.sum.at = time.time()
                lines += self._encoder.encode({"sum": self.sum}) + b"\n"
            if lines:
                await self._put(lines)
            self._room_bytes = max(0, min(MOST_PENDING_BYTES, MOST_BYTES - self._kept_bytes))

    async def _put(self, lines: bytes) -> bool:
        self._lines = b""
        if self._write is None:
            return True
        try:
            # A number that is there is of an earlier process, whose door of the same name this one goes on for.
            while await self._write(self._number, lines) is False:
                self._number += 1
        except WorkerError:
            self._lines = lines
            return False
        self._number += 1
        self._kept_bytes += len(lines)
        return True

    def _line(self, record: Record, offset_s: float) -> bytes:
        ended_s, ruling, tag, size_bytes, run_s, sqlstate, rule = record
        text = ruling.record or self._describe(ruling)
        if not sqlstate and _PLAIN_TAG.fullmatch(tag):
            # Nearly all of them: a third of the time of encoding an Entry.
            rows = tag[tag.rfind(b" ") + 1 :]
            values = (ended_s + offset_s, text, tag, rows, size_bytes, run_s * 1000)
            return b'{"at":%.6f,%b,"tag":"%b","rows":%b,"bytes":%d,"ms":%.3f}\n' % values
        entry = Entry(
            round(ended_s + offset_s, 6), rule, tag.decode("utf-8", "replace"), size_bytes, round(run_s * 1000, 3),
            sqlstate,
        )  # fmt: skip
        return b"{" + text + b"," + self._encoder.encode(entry)[1:] + b"\n"

    def _describe(self, ruling: Ruling) -> bytes:
        """The part of a line that is the same each time."""
        verdict = ruling.verdict
        text, sql = ruling.text, verdict.sql if isinstance(verdict, Forward | Own) else ""
        said = {"text": text[:MOST_TEXT]}
        if sql and sql != text:
            said["sql"] = sql[:MOST_TEXT]
        ruling.record = self._encoder.encode(said)[1:-1]
        return ruling.record

    def _count(self, record: Record) -> None:
        total = self.sum
        total.statements += 1
        total.bytes += record[3]
        total.ms += record[4] * 1000
        if record[6]:
            total.refused += 1
        elif record[5]:
            total.failed += 1

    def _omit(self) -> None:
        """Take back the last record, for which there is no room."""
        record = self._pending.pop()
        self._pending_bytes -= record[1].record_bytes
        self._count(record)
        self.sum.omitted += 1
