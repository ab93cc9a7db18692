"""A sandbox with its runner and the session to it, as a host makes them. Used by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workers.sandbox.bundle import Bind, Command
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.listener import Listener
from workers.sandbox.replies import SessionLimits
from workers.sandbox.sandboxes import Sandbox, Sandboxes
from workers.sandbox.session import Session

RUNNER = Path(__file__).resolve().parents[2] / "workers" / "sandbox" / "runner"
START = Command(argv=("/usr/bin/python3", "-I", "/opt/sandpool"))
SESSION_LIMITS = SessionLimits(output_bytes=100_000, wall_s=10, grace_s=1.0, frame_s=1.0)
Mounts = Callable[[str], list[Bind]]


def listener_of(mounts: list[Bind]) -> Listener:
    return Listener(mounts[1].source)


async def start_live(
    sandboxes: Sandboxes,
    image: Image,
    limits: Limits,
    mounts: list[Bind],
    session_limits: SessionLimits = SESSION_LIMITS,
) -> tuple[Sandbox, Session]:
    """`mounts`: the runner, the socket folder, and whatever else the sandbox shall see."""
    listener = listener_of(mounts)
    await listener.open()
    sandbox = await sandboxes.create(image, limits, START, mounts=mounts)
    return sandbox, await listener.accept(20, session_limits)
