"""One sandbox that somebody keeps: what is known of it, and what its tenant is shown. Data; `kept` does the work."""

from __future__ import annotations

import asyncio
import time

import msgspec

from workers.sandbox.errors import SpecInvalid, UnknownSandbox
from workers.sandbox.limits import Limits
from workers.sandbox.records import PAUSED, Record
from workers.sandbox.starter import Live
from workers.sandbox.task import DatabaseFile
from workers.sandbox.transitions import Event, State, after

DEFAULT_LIFETIME_S = 300.0
LONGEST_S = 365 * 86_400.0


class KeptView(msgspec.Struct, frozen=True, kw_only=True):
    """A kept sandbox as its tenant sees it. Times are seconds since 1970; None: no end."""

    id: str
    state: State
    image: str
    created_at_s: float
    expires_at_s: float | None
    idle_s: float | None
    memory_bytes: int
    cpus: float
    disk_bytes: int = 0
    """Of its saved memory, while it is paused."""
    databases: tuple[str, ...] = ()


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as its tenant sees it."""

    id: str
    label: str
    image: str
    created_at_s: float
    disk_bytes: int


class Kept:
    """All that changes with a kept sandbox."""

    def __init__(self, record: Record, state: State) -> None:
        self.record = record
        """What is written down when it is paused."""
        self._ends_s = _ends_s(record.expires_at_s)
        self.limits = Limits.from_dict(dict(record.limits))
        self.state = state
        self.live: Live | None = None
        self.promise = 0
        self.calls = 0
        """Code and commands that run in it."""
        self.used_at_s = time.monotonic()
        self.disk_bytes = 0
        self.turn = asyncio.Lock()
        """One transition at a time."""

    @property
    def id(self) -> str:
        return self.record.id

    def become(self, event: Event) -> None:
        """Raises NotInThisState."""
        self.state = after(self.state, event)

    def touch(self) -> None:
        self.used_at_s = time.monotonic()

    def keeps_until(self, expires_at_s: float | None, idle_s: float | None) -> None:
        self.record = msgspec.structs.replace(self.record, expires_at_s=expires_at_s, idle_s=idle_s)
        self._ends_s = _ends_s(expires_at_s)

    def is_over(self, now_s: float) -> bool:
        """Whether its lifetime has ended; `now_s`: of the monotonic clock, as in `is_idle`. The wall clock counts once,
        when the host takes it on: one that is set while it lives ends nothing early, and keeps nothing."""
        return self._ends_s is not None and now_s >= self._ends_s

    def is_idle(self, now_s: float) -> bool:
        """Whether it should be paused."""
        idle_s = self.record.idle_s
        return (
            idle_s is not None and self.state is State.Running and not self.calls and now_s - self.used_at_s >= idle_s
        )

    def view(self) -> KeptView:
        record = self.record
        return KeptView(
            id=record.id,
            state=self.state,
            image=record.image,
            created_at_s=record.created_at_s,
            expires_at_s=record.expires_at_s,
            idle_s=record.idle_s,
            memory_bytes=self.limits.memory_bytes,
            cpus=self.limits.cpus,
            disk_bytes=self.disk_bytes,
            databases=(*record.databases, *(file.name for file in record.files)),
        )


class Whose(msgspec.Struct, frozen=True):
    """Whose a new sandbox is, how long it stays, and what it may reach: all that is not in its memory."""

    tenant: str
    expires_at_s: float | None
    databases: tuple[str, ...] = ()
    volume: str = ""
    files: tuple[DatabaseFile, ...] = ()


def unknown() -> UnknownSandbox:
    """For what never was, what is gone, and what is somebody else's."""
    return UnknownSandbox("no such sandbox or snapshot", hint="`sandpool sandbox ls` shows yours")


def check_span(name: str, span_s: float | None) -> None:
    """Raises SpecInvalid unless a sandbox can live, or be idle, for so long."""
    if span_s is not None and not 0 < span_s <= LONGEST_S:
        raise SpecInvalid(name, f"above 0, at most {LONGEST_S:g} seconds, or none")


def _ends_s(expires_at_s: float | None) -> float | None:
    """The moment of the monotonic clock at which that of the wall clock is due."""
    return None if expires_at_s is None else time.monotonic() + expires_at_s - time.time()


def end_of(lifetime_s: float | None) -> float | None:
    """Seconds since 1970 at which a lifetime that begins now ends."""
    check_span("lifetime_s", lifetime_s)
    return None if lifetime_s is None else time.time() + lifetime_s


def new_record(sandbox_id: str, whose: Whose, image: str, limits: Limits) -> Record:
    return Record(
        use=PAUSED,
        id=sandbox_id,
        tenant=whose.tenant,
        image=image,
        limits=limits.as_dict(),
        created_at_s=time.time(),
        expires_at_s=whose.expires_at_s,
        databases=whose.databases,
        volume=whose.volume,
        files=whose.files,
    )
