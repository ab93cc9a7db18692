"""How far a batch is, told on standard error: a live bar where a person watches, else a plain line now and then.

Called by `batch`. Counts are given to it; it decides nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from sandpool.outcome import Ending

PLAIN_INTERVAL_S = 5.0


@dataclass(slots=True)
class Tally:
    """What has become of the lines of a batch so far."""

    total: int | None = None
    """Lines of the file; None: it cannot be known before its end."""
    ended: Counter[Ending] = field(default_factory=Counter)
    """Outcomes of this run."""
    before: Counter[Ending] = field(default_factory=Counter)
    """Outcomes that an earlier run had written down."""
    adopted: int = 0
    """Of `ended`: recorded before this run began, so that nothing ran again."""
    malformed: int = 0
    repeated: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.ended.total() + self.before.total() + self.malformed + self.repeated

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def succeeded(self) -> bool:
        """Whether everything is well."""
        not_well = (self.ended + self.before).keys() - {Ending.Succeeded}
        return not not_well and not self.malformed

    def text(self) -> str:
        """`512 Succeeded, 3 Denied, 1 malformed · 430/s`"""
        endings = self.ended + self.before
        pieces = [f"{endings[ending]:,} {ending}" for ending in Ending if endings[ending]]
        pieces += [f"{self.malformed:,} malformed"] if self.malformed else []
        rate = self.ended.total() / max(self.elapsed_s, 0.001)
        return f"{', '.join(pieces) or 'nothing yet'} · {rate:,.0f}/s"


class Display(Protocol):
    """Shows a tally; `note` prints a line that stays."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, tally: Tally) -> None: ...

    def note(self, text: str) -> None: ...


class PlainLines:
    """For logs and pipes: one line every few seconds, none when nothing changed."""

    def __init__(self, interval_s: float = PLAIN_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._said_s = time.monotonic()
        self._said_done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def update(self, tally: Tally) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= self._interval_s and tally.done != self._said_done:
            self._said_s, self._said_done = now_s, tally.done
            of = f" of {tally.total:,}" if tally.total is not None else ""
            click.echo(f"{tally.done:,}{of} · {tally.text()}", err=True)

    def note(self, text: str) -> None:
        click.echo(text, err=True)


class LiveBar:
    """For a person at a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("nothing yet", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, tally: Tally) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=tally.done, total=tally.total, description=tally.text())

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, soft_wrap=True)
