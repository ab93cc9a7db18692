"""The file of outcomes that a batch writes and, run again, goes on with. Called by `batch` only.

One JSON object per line, in the order in which jobs ended. What stands there is not submitted again. A last line that a
crash cut short is dropped; a lock keeps a second batch out.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import click
import msgspec

from cluster.cli.records import outcome_document
from sandpool.job import Job, digest
from sandpool.outcome import Ending, Outcome

_decoder = msgspec.json.Decoder(Outcome)


class OutcomeLog:
    """Appends outcomes; knows which jobs have one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended: dict[str, tuple[str, Ending]] = {}

    def __enter__(self) -> Self:
        """Raises click.UsageError when the file holds something else or another batch writes it; OSError."""
        self._file = self._path.open("a+b")
        try:
            self._lock()
            self._file.seek(0)
            self._file.truncate(self._load())
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def ending_of(self, job: Job) -> Ending | None:
        """How this very work ended in an earlier run."""
        known_digest, ending = self._ended.get(job.id, ("", None))
        return ending if known_digest in ("", digest(job)[:16]) else None

    def write(self, outcome: Outcome) -> None:
        """Add one outcome; it survives the death of this process at once."""
        self._file.write(msgspec.json.encode(outcome_document(outcome)) + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.UsageError(f"{self._path}: another batch writes this file now") from None

    def _load(self) -> int:
        """Read what is there. Returns where its last whole line ends."""
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                outcome = _decoder.decode(line)
            except msgspec.DecodeError:
                message = f"{self._path}: line {number} is no outcome; give --out another file"
                raise click.UsageError(message) from None
            self._ended[outcome.job_id] = (outcome.digest[:16], outcome.ending)
            end += len(line)
        return end
