"""What can be asked of a host about kept sandboxes, as messages: decoded strictly, carried out, answered.

Sent by `sandpool sandbox ...` through the host's actor. Every request names its tenant apart from this; an error is an
answer too, with its stable code. It decides nothing: `kept` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from workers.errors import VolumeUnavailable, WorkerError
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.interaction import Interaction, Terminal
from workers.sandbox.keeping import DEFAULT_LIFETIME_S, KeptView, SavedView
from workers.sandbox.kept import KeptSandboxes
from workers.sandbox.kept_files import Brought
from workers.sandbox.limits import Limits
from workers.sandbox.replies import Execution, OnOutput
from workers.sandbox.tail import Heard, Tail
from workers.sandbox.task import DatabaseFile
from workers.volumes.store import Volume

UNSEEN_S = 20.0
"""A command in a terminal that nobody has watched for so long is ended: whoever typed is gone."""
Offset = Annotated[int, msgspec.Meta(ge=0)]


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb"):
    pass


class Create(_Request, frozen=True, tag="create"):
    image: str = "base"
    limits: dict[str, float | int] = {}
    """Those that differ from the usual ones."""
    snapshot: str = ""
    lifetime_s: float | None = DEFAULT_LIFETIME_S
    idle_s: float | None = None
    databases: tuple[str, ...] = ()
    """To which whoever asks has checked the tenant's right."""
    volume: str = ""
    files: tuple[DatabaseFile, ...] = ()
    """Databases that it has as files: alike, and their policies were asked."""
    most_files_bytes: int = 0


class Code(_Request, frozen=True, tag="code"):
    id: str
    code: str
    context: str = "main"
    timeout_s: float | None = None
    watch: str = ""
    """A name of the asker's choice, by which `Watch` finds it while it runs; empty: nobody watches."""


class Exec(_Request, frozen=True, tag="exec"):
    id: str
    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = {}
    stdin: bytes = b""
    timeout_s: float | None = None
    watch: str = ""
    """As of Code."""
    rows: int = 0
    columns: int = 0
    """Of the terminal that it runs in; 0: in none. Its input comes by `Type`, and it ends with who watches it."""


class Type(_Request, frozen=True, tag="type"):
    """Input for an Exec under way in a terminal, and the terminal's size where it has changed."""

    id: str
    watch: str
    data: bytes = b""
    rows: int = 0
    columns: int = 0


class Watch(_Request, frozen=True, tag="watch"):
    """What a Code or Exec under way has written beyond these offsets."""

    id: str
    watch: str
    stdout_from: Offset = 0
    stderr_from: Offset = 0
    wait_s: float = 0.0


class List(_Request, frozen=True, tag="list"):
    pass


class Pause(_Request, frozen=True, tag="pause"):
    id: str


class Resume(_Request, frozen=True, tag="resume"):
    id: str


class Fork(_Request, frozen=True, tag="fork"):
    id: str
    count: int = 1


class Save(_Request, frozen=True, tag="snapshot"):
    id: str
    label: str = ""


class SetTimeout(_Request, frozen=True, tag="timeout"):
    id: str
    lifetime_s: float | None
    idle_s: float | None = None


class Remove(_Request, frozen=True, tag="rm"):
    id: str


class Push(_Request, frozen=True, tag="push"):
    id: str
    volume: str


class Pull(_Request, frozen=True, tag="pull"):
    id: str
    volume: str


Request = Create | Code | Exec | Type | Watch | List | Pause | Resume | Fork | Save | SetTimeout | Remove | Push | Pull


class Views(msgspec.Struct, frozen=True, kw_only=True, tag="views"):
    sandboxes: list[KeptView] = []
    snapshots: list[SavedView] = []


class Ran(msgspec.Struct, frozen=True, kw_only=True, tag="ran"):
    """An Execution. Text and bytes in it are the sandbox's: show, never interpret."""

    ending: str
    stdout: bytes
    stderr: bytes
    wall_s: float
    code: int | None = None
    value: dict[str, bytes] = {}
    displays: tuple[dict[str, bytes], ...] = ()
    error_kind: str = ""
    error_message: str = ""
    traceback: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """It could not be done. `code` is the error's stable id."""

    code: str
    message: str
    hint: str = ""
    retry: bool = False


Answer = Views | Ran | Heard | Refused
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def pack(request: Request) -> bytes:
    return msgspec.msgpack.encode(request)


def unpack(answer: bytes) -> Answer:
    return _answers.decode(answer)


class Terminals:
    """Commands that run in a terminal, for somebody who types. One whom nobody watches any more is ended."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str], Interaction] = {}
        self._seen_s: dict[tuple[str, str, str], float] = {}

    async def run(self, kept: KeptSandboxes, tenant: str, request: Exec, on_output: OnOutput) -> Execution:
        key = (tenant, request.id, request.watch)
        async with kept.open_command(
            tenant,
            request.id,
            request.argv,
            cwd=request.cwd,
            env=request.env,
            pty=Terminal(rows=request.rows, columns=request.columns),
            timeout_s=request.timeout_s,
            on_output=on_output,
        ) as command:
            self._open[key], self._seen_s[key] = command, time.monotonic()
            ending = asyncio.ensure_future(command.wait())
            try:
                while not ending.done():
                    await asyncio.wait({ending}, timeout=UNSEEN_S / 4)
                    if time.monotonic() - self._seen_s[key] > UNSEEN_S:
                        await command.signal(signal.SIGKILL)
                return ending.result()
            finally:
                ending.cancel()
                del self._open[key], self._seen_s[key]

    async def type(self, tenant: str, request: Type) -> Heard:
        """`running`: whether the command is still there to take more."""
        command = self._open.get((tenant, request.id, request.watch))
        if command is None:
            return Heard()
        if request.rows:
            await command.resize(Terminal(rows=request.rows, columns=request.columns))
        return Heard(running=not request.data or await command.write(request.data))

    def seen(self, key: tuple[str, str, str]) -> None:
        if key in self._seen_s:
            self._seen_s[key] = time.monotonic()


class Requests:
    """Carries requests out on one host's kept sandboxes."""

    def __init__(
        self, kept: KeptSandboxes, volumes: Mapping[str, Volume], retention_s: Mapping[str, int | None]
    ) -> None:
        """`retention_s`: how long each volume keeps what is sent there."""
        self._retention_s = retention_s
        self._kept = kept
        self._volumes = volumes
        self._watched: dict[tuple[str, str, str], Tail] = {}
        """By tenant, sandbox and the asker's name for it; only while it runs."""
        self._terminals = Terminals()

    async def answer(self, tenant: str, packed: bytes) -> bytes:
        """Carry a packed request out; the packed answer. Raises nothing that a request could bring about."""
        answer: Answer
        try:
            answer = await self._answer(tenant, _requests.decode(packed))
        except msgspec.MsgspecError as error:
            answer = Refused(code="sandbox.request", message=f"not a request: {error}"[:500])
        except WorkerError as error:
            answer = Refused(code=error.code, message=error.message, hint=error.hint, retry=error.retry)
        return msgspec.msgpack.encode(answer)

    async def _answer(self, tenant: str, request: Request) -> Answer:
        kept = self._kept
        match request:
            case List():
                return Views(sandboxes=kept.list_sandboxes(tenant), snapshots=kept.list_snapshots(tenant))
            case Code() | Exec():
                return await self._run(tenant, request)
            case Type():
                kept.check_known(tenant, request.id)
                return await self._terminals.type(tenant, request)
            case Watch():
                kept.check_known(tenant, request.id)
                key = (tenant, request.id, request.watch)
                tail = self._watched.get(key)
                self._terminals.seen(key)
                return await tail.read(request.stdout_from, request.stderr_from, request.wait_s) if tail else Heard()
            case Save():
                return Views(snapshots=[await kept.snapshot(tenant, request.id, request.label)])
            case Remove():
                await kept.destroy(tenant, request.id)
                return Views()
            case Create():
                return Views(sandboxes=[await self._create(tenant, request)])
            case Push():
                volume, retention_s = self._volume(request.volume), self._retention_s.get(request.volume)
                return Views(snapshots=[await kept.push(tenant, request.id, volume, retention_s)])
            case Pull():
                return Views(snapshots=[await kept.pull(tenant, request.id, self._volume(request.volume))])
            case _:
                return Views(sandboxes=await _changed(kept, tenant, request))

    async def _create(self, tenant: str, request: Create) -> KeptView:
        return await self._kept.create(
            tenant,
            request.image,
            _limits(request.limits),
            snapshot=request.snapshot,
            lifetime_s=request.lifetime_s,
            idle_s=request.idle_s,
            databases=request.databases,
            volume=request.volume,
            files=Brought(request.files, self._volumes, request.most_files_bytes),
        )

    async def _run(self, tenant: str, request: Code | Exec) -> Ran:
        with self._watching(tenant, request) as tail:
            on_output = tail.take if tail else None
            if isinstance(request, Code):
                execution = await self._kept.run_code(
                    tenant,
                    request.id,
                    request.code,
                    context=request.context,
                    timeout_s=request.timeout_s,
                    on_output=on_output,
                )
            elif request.rows and on_output is not None:
                execution = await self._terminals.run(self._kept, tenant, request, on_output)
            else:
                execution = await self._kept.run_command(
                    tenant,
                    request.id,
                    request.argv,
                    cwd=request.cwd,
                    env=request.env,
                    stdin=request.stdin,
                    timeout_s=request.timeout_s,
                    on_output=on_output,
                )
        return _ran(execution)

    @contextlib.contextmanager
    def _watching(self, tenant: str, request: Code | Exec) -> Iterator[Tail | None]:
        key = (tenant, request.id, request.watch)
        if not request.watch or key in self._watched:
            yield None
            return
        tail = self._watched[key] = Tail()
        try:
            yield tail
        finally:
            del self._watched[key]
            tail.end()

    def _volume(self, name: str) -> Volume:
        if name not in self._volumes:
            raise VolumeUnavailable(f"volume {name!r} is not known on this host")
        return self._volumes[name]


async def _changed(kept: KeptSandboxes, tenant: str, request: Any) -> list[KeptView]:
    match request:
        case Pause():
            return [await kept.pause(tenant, request.id)]
        case Resume():
            return [await kept.resume(tenant, request.id)]
        case SetTimeout():
            return [await kept.set_timeout(tenant, request.id, request.lifetime_s, request.idle_s)]
        case Fork():
            return await kept.fork(tenant, request.id, request.count)
        case _:
            raise SpecInvalid("verb", "nothing that can be asked for")


def _limits(changed: dict[str, float | int]) -> Limits | None:
    return Limits.from_dict(dict(changed)) if changed else None


def _ran(execution: Execution) -> Ran:
    error = execution.error
    return Ran(
        ending=execution.ending.value,
        stdout=execution.stdout,
        stderr=execution.stderr,
        wall_s=execution.usage.wall_s,
        code=execution.code,
        value=dict(execution.value or {}),
        displays=tuple(dict(bundle) for bundle in execution.displays),
        error_kind=error.kind if error else "",
        error_message=error.message if error else "",
        traceback=error.traceback if error else "",
    )
