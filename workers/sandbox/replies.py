"""What comes back for one request: collected while it streams in, never more than the limits, then one frozen value.

Used by `session`, which feeds each frame to the reply that it belongs to. A reply decides when too much came; it never
sends anything and never ends a sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sandpool.outcome import Ending
from workers.sandbox import wire
from workers.sandbox.errors import ProtocolBroken, SessionError

OnOutput = Callable[[wire.Stream, bytes], Awaitable[None]]
"""Called for each piece of stdout and stderr. While it waits nothing more is read: the sandbox waits too."""
TYPE_COST_BYTES = 256
"""What one MIME type counts for even when it is empty, so that empty ones do not add up."""


@dataclass(frozen=True, kw_only=True)
class SessionLimits:
    """What one sandbox may make its host keep or wait for."""

    output_bytes: int = 1 << 20
    """stdout and stderr of one execution together."""
    result_bytes: int = 8 << 20
    """All MIME bundles of one execution together."""
    wall_s: float = 300.0
    """Of one execution, when the caller names no other."""
    grace_s: float = 2.0
    """Between an interrupt and giving the session up."""
    answer_s: float = 10.0
    """For everything that should be quick: handshake, one piece of a file, release."""
    transfer_s: float = 600.0
    """For a whole file or folder; the time that our side takes with each piece does not count."""
    frame_s: float = 10.0
    """For the rest of a frame that has begun, and for the sandbox to take a frame of ours."""
    stray_bytes: int = 64 << 20
    """Output of a whole session that belongs to nothing we asked for: dropped up to here, then the session ends."""
    frames: int = 250_000
    """Of one execution: each costs the host some 30 us, however small it is."""


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An error of the code: its class, message, and the traceback with the user's own lines."""

    kind: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class RunUsage:
    """`wall_s` and `output_bytes` are measured by the host; the others are what the sandbox says (0: nothing)."""

    wall_s: float
    output_bytes: int
    cpu_s: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a piece of code or a command ended. All text and bytes in it are the sandbox's: show, never interpret."""

    ending: Ending
    stdout: bytes
    stderr: bytes
    usage: RunUsage
    code: int | None = None
    """Exit status of a command or of `sys.exit`; negative: ended by that signal."""
    value: Mapping[str, bytes] | None = None
    """MIME bundle of the last expression."""
    displays: tuple[Mapping[str, bytes], ...] = ()
    """MIME bundles of figures and of `display(...)`, in order."""
    error: Raised | None = None
    omitted: int = 0
    """MIME types left out because they were too large."""
    lost: bool = False
    """The session ended before the answer: `error` is ours then. Otherwise its kind is whatever the code says."""

    @property
    def text(self) -> str | None:
        """The value as `repr` shows it."""
        return self.value["text/plain"].decode(errors="replace") if self.value and "text/plain" in self.value else None


@dataclass
class Reply:
    """One request's answer. `ended` holds the last message; `stop` is set when too much came."""

    limits: SessionLimits
    on_output: OnOutput | None = None
    ended: asyncio.Future[tuple[wire.Message, bytes]] = field(init=False)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    took: asyncio.Event = field(default_factory=asyncio.Event)
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    items: dict[int, dict[str, bytearray]] = field(default_factory=dict)
    value_item: int | None = None
    output_bytes: int = 0
    result_bytes: int = 0
    frames: int = 0
    deaf: bool = False
    """Whether the command has closed its input."""
    interrupted: bool = False
    """Whether somebody asked for the end of it."""

    def __post_init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    @property
    def capped(self) -> bool:
        return self.stop.is_set()

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # whoever gave up waiting must not be told that nobody looked

    async def take(self, message: wire.Message, payload: bytes) -> None:
        """One frame. Raises ProtocolBroken for one that makes no sense after those before it."""
        self.frames += 1
        if self.frames > self.limits.frames:
            self.stop.set()
        if isinstance(message, wire.Output):
            await self._take_output(message.stream, payload)
        elif isinstance(message, wire.Item):
            self._take_item(message, payload)
        elif isinstance(message, wire.Took):
            self.deaf = self.deaf or message.closed
            self.took.set()
        elif isinstance(message, wire.Hello | wire.Ready | wire.Changes):
            raise ProtocolBroken("something in the middle of a session that does not belong there")
        elif not self.ended.done():
            self.ended.set_result((message, payload))

    async def _take_output(self, stream: wire.Stream, payload: bytes) -> None:
        kept = payload[: max(0, self.limits.output_bytes - self.output_bytes)]
        self.output_bytes += len(kept)
        if len(kept) < len(payload):
            self.stop.set()
        if not kept:
            return
        (self.stdout if stream == "stdout" else self.stderr).extend(kept)
        if self.on_output is not None:
            try:
                await self.on_output(stream, kept)
            except Exception as error:  # noqa: BLE001 - the caller's own; it goes back to that caller
                self.fail(error)

    def _take_item(self, message: wire.Item, payload: bytes) -> None:
        types = self.items.setdefault(message.item, {})
        new = message.type not in types
        self.result_bytes += len(payload) + (TYPE_COST_BYTES if new else 0)
        if self.result_bytes > self.limits.result_bytes + 64 * TYPE_COST_BYTES:
            self.stop.set()
            return
        if message.value:
            self.value_item = message.item
        types.setdefault(message.type, bytearray()).extend(payload)

    def bundles(self) -> tuple[Mapping[str, bytes] | None, tuple[Mapping[str, bytes], ...]]:
        """The value's bundle, and the others in order."""
        whole = {n: {kind: bytes(content) for kind, content in self.items[n].items()} for n in sorted(self.items)}
        value = whole.pop(self.value_item, None) if self.value_item is not None else None
        return value, tuple(bundle for bundle in whole.values() if bundle)


def execution_of(reply: Reply, *, wall_s: float, timed_out: bool, lost: SessionError | None) -> Execution:
    """Ending, value and usage from what came. `lost`: the session ended before the answer."""
    message, payload = reply.ended.result() if lost is None else (None, b"")
    value, displays = reply.bundles()
    error: Raised | None = None
    code: int | None = None
    if isinstance(message, wire.Done):
        code = message.code if message.ending == "exited" else None
        if message.ending in ("raised", "interrupted"):
            error = Raised(kind=message.error, message=message.message, traceback=payload.decode(errors="replace"))
    elif isinstance(message, wire.Exited):
        code = message.code
    elif isinstance(message, wire.Refused):
        error = Raised(kind=message.error, message=message.message)
    elif lost is not None:
        error = Raised(kind=lost.code, message=lost.message)
    if reply.capped:
        ending = Ending.OutputCapped
    elif timed_out:
        ending = Ending.TimedOut
    elif reply.interrupted and isinstance(message, wire.Done) and message.ending == "interrupted":
        ending = Ending.Cancelled
    else:
        ending = Ending.Failed if error is not None or code else Ending.Succeeded
    said = message if isinstance(message, wire.Done) else wire.Done(ending="done")
    usage = RunUsage(wall_s=wall_s, output_bytes=reply.output_bytes, cpu_s=said.cpu_s, peak_bytes=said.peak_bytes)
    return Execution(
        ending=ending,
        stdout=bytes(reply.stdout),
        stderr=bytes(reply.stderr),
        usage=usage,
        code=code,
        value=value,
        displays=displays,
        error=error,
        omitted=said.omitted,
        lost=lost is not None,
    )
