"""Turns the lines of a batch file into jobs, one at a time. Pure but for reading the stream it is given.

Each line is one JSON object with the fields of a job ({"database", "sql", "params"?, "id"?, ...}). A line that is no
job is reported with its number and never stops the others. A job without an id gets one derived from its work, so that
the same file run again names the same jobs and repeats nothing that has ended: the n-th line with the same work gets
the n-th id, wherever it stands. What is kept per line is a few small integers: some 20 MB for 100,000 lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sandpool.errors import InvalidEnvelope, InvalidJob
from sandpool.job import SqlJob, digest
from sandpool.wire import MAX_ENVELOPE_BYTES, encode_job

_SURELY_FITS_BYTES = MAX_ENVELOPE_BYTES // 2


class Lines(Protocol):
    """What is read: a binary file, or `slow_stream.SlowStream`."""

    def readline(self, limit: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no job."""

    line: int
    message: str


@dataclass(slots=True)
class BatchLines:
    """Reads jobs from lines. `run` is part of every derived id: another name makes all of them new jobs."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    repeated: int = 0
    """Lines that named a job (same id, same work) which an earlier line had named: they run once."""
    _seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    _occurrences: dict[int, int] = field(default_factory=dict)

    def read(self, stream: Lines) -> Iterator[SqlJob | Malformed]:
        """The jobs and the faults of a stream of lines, in order."""
        number = 0
        while line := stream.readline(MAX_ENVELOPE_BYTES + 1):
            number += 1
            if len(line) > MAX_ENVELOPE_BYTES and not line.endswith(b"\n"):
                _skip_line(stream)
                yield Malformed(number, f"longer than {MAX_ENVELOPE_BYTES} bytes")
            elif line.strip():
                answer = self.job_of(number, line)
                if answer is not None:
                    yield answer

    def job_of(self, number: int, line: bytes) -> SqlJob | Malformed | None:
        """The job of one line; None for a repetition of an earlier line's job."""
        try:
            job = self._decode(line)
            if len(line) > _SURELY_FITS_BYTES:
                encode_job(job)
        except (msgspec.DecodeError, InvalidJob, InvalidEnvelope, RecursionError, UnicodeError) as error:
            return Malformed(number, str(error))
        work = int(digest(job)[:16], 16)
        first_line, first_work = self._seen.setdefault(_fingerprint(job.id), (number, work))
        if first_line == number:
            return job
        if first_work != work:
            return Malformed(number, f"id {job.id!r} names other work on line {first_line}")
        self.repeated += 1
        return None

    def _decode(self, line: bytes) -> SqlJob:
        fields = msgspec.json.decode(line)
        if not isinstance(fields, dict):
            raise InvalidJob("line", 'it takes one JSON object: {"database": ..., "sql": ...}')
        # A known id first, so that nothing random is made only to be replaced.
        job = msgspec.convert({"id": "derived", **self.defaults, **fields}, SqlJob)
        return job if "id" in fields else msgspec.structs.replace(job, id=self._derive_id(job))

    def _derive_id(self, job: SqlJob) -> str:
        work = digest(job)
        key = int(work[:16], 16)
        occurrence = self._occurrences.get(key, 0)
        self._occurrences[key] = occurrence + 1
        text = msgspec.json.encode([self.run, work, occurrence])
        return f"batch-{hashlib.sha256(text).hexdigest()[:40]}"


def _fingerprint(job_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(job_id.encode(), digest_size=8).digest(), "big")


def _skip_line(stream: Lines) -> None:
    while (rest := stream.readline(MAX_ENVELOPE_BYTES)) and not rest.endswith(b"\n"):
        pass
