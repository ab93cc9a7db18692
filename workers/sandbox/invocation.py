"""What goes into a call of runsc and what comes out of it. Data only; used by `runsc` and whoever calls it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds after which a command counts as hung. Generous: a busy machine is slow, a hung runsc hangs for ever."""

    create_s: float = 30.0
    start_s: float = 20.0
    checkpoint_s: float = 120.0
    restore_s: float = 120.0
    delete_s: float = 20.0
    query_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class RunscSpec:
    """Which runsc, and where it keeps the state of its sandboxes (a folder for this host alone)."""

    folder: Path
    binary: str = "runsc"
    platform: str = "systrap"
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a sandbox comes up.

    Descriptors are for its first process; None: /dev/null. Use pipes or sockets: gVisor overwrites regular files. The
    caller keeps and closes its own copies.
    """

    bundle: Path
    """Folder with its config.json; runsc's log and pid file go there too."""
    read_only: tuple[Path, ...] = ()
    """What config.json mounts read-only: the host's kernel is told so as well (`reaper.become` says why)."""
    flags: tuple[str, ...] = ()
    """For runsc, of this sandbox alone."""
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How one command inside a sandbox ended. `code` is None when it was killed for its time or its output."""

    code: int | None
    stdout: bytes
    stderr: bytes
    capped: bool
    timed_out: bool
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class SandboxState:
    """What runsc knows of one sandbox: `status` is created, running, stopped or paused."""

    sandbox_id: str
    pid: int
    status: str
