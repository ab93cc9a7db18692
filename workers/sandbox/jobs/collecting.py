"""Brings what code left out of its sandbox into the job's volume: output files, displays, long texts.

Called by `run` while the sandbox still lives. Files are listed and read through the session, by the runner inside: no
path from inside is ever opened on the host, links and devices are never followed or read. Bytes are counted and hashed
while they stream, and stay opaque. What was kept before something went wrong stays kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sandpool.outcome import INLINE_LIMIT_BYTES, TEXT_BYTES, Display, File, Said
from workers.errors import VolumeError, WorkerError
from workers.sandbox.errors import FileRefused, ProtocolBroken
from workers.sandbox.image import HOME
from workers.sandbox.jobs.errors import OutputMissing, OutputOdd, OutputsTooLarge, TooManyOutputs
from workers.sandbox.jobs.globs import is_literal, matches
from workers.sandbox.replies import Execution
from workers.sandbox.session import Session
from workers.sandbox.task import SandboxTask
from workers.sandbox.wire import Entry
from workers.volumes.keys import Folder, output_key, part_key
from workers.volumes.store import Volume, Writer

OUT = f"{HOME}/out"
"""Working folder of every job, inside."""
MOST_ENTRIES = 20_000
"""Looked at in search of outputs; more of them end the job OutputCapped."""
DEEPEST = 16
SMALL_BYTES = 1024 * 1024
"""Up to here a file is held whole and put at once."""
END_BYTES = 4
TEXT_TYPE = "text/plain"
SUFFIXES = {
    "application/json": ".json",
    "application/vnd.apache.arrow.stream": ".arrows",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "text/html": ".html",
    "text/latex": ".tex",
    "text/markdown": ".md",
    "text/plain": ".txt",
}


@dataclass(slots=True)
class Collected:
    """What was kept, and the first thing that went wrong."""

    files: list[File] = field(default_factory=list)
    omitted: int = 0
    size_bytes: int = 0
    error: WorkerError | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """A file that lies in the volume now."""

    file: File
    ends: tuple[bytes, bytes]
    """Its first and last END_BYTES."""


class Place:
    """Where one attempt's objects go."""

    def __init__(self, task: SandboxTask, volume: Volume) -> None:
        self._names = (task.tenant, task.job_id, task.attempt_id)
        self._volume = volume

    def key(self, folder: Folder, path: str) -> str:
        return output_key(*self._names, folder, path)

    def part_key(self, number: int) -> str:
        return part_key(*self._names, number)

    async def put(self, key: str, content: bytes) -> str:
        """The SHA-256 of what lies there now. Raises VolumeError."""
        # False: an earlier try of this very put, for the name belongs to this attempt alone.
        await self._volume.acreate(key, content)
        return hashlib.sha256(content).hexdigest()

    def open_writer(self, key: str) -> Writer:
        return self._volume.open_writer(key)


async def collect(session: Session, task: SandboxTask, place: Place) -> Collected:
    """Every output file. Never raises for what the code did; raises SessionError when the sandbox is gone,
    VolumeError."""
    collected = Collected()
    try:
        found, closed = await _search(session, task.outputs)
        collected.error = _why_not_there(task.outputs, found)
        regular = sorted((path, entry.size_bytes) for path, entry in found.items() if entry.kind == "file")
        collected.omitted = len(found) - len(regular) + closed
        for path, size_bytes in regular:
            if len(collected.files) >= task.most_files:
                raise TooManyOutputs(f"more than {task.most_files} output files", hint="write fewer, or one archive")
            left_bytes = task.most_files_bytes - collected.size_bytes
            if size_bytes > left_bytes:
                raise _too_large(task)
            try:
                copied = await copy_out(session, f"{OUT}/{path}", path, place.key("out", path), place, left_bytes)
            except FileRefused as error:
                if error.reason == "EFBIG":
                    raise _too_large(task) from error
                collected.error = collected.error or _why_unread(path, error.reason)
                continue
            collected.files.append(copied.file)
            collected.size_bytes += copied.file.size_bytes
    except (TooManyOutputs, OutputsTooLarge) as error:
        collected.error = error
    return collected


def _why_unread(path: str, reason: str) -> OutputMissing:
    if reason == "ENOENT" and "?" in path:
        # The runner shows a name that is no UTF-8 with this in it, and no frame could ask for it.
        return OutputMissing(f"{path[:200]}: gone, or its name is no UTF-8", hint="give output files names in UTF-8")
    return OutputMissing(f"{path[:200]}: gone, or not readable ({reason})")


async def copy_out(session: Session, inside: str, path: str, key: str, place: Place, most_bytes: int) -> Copied:
    """One file into the volume under `key`. FileRefused (EFBIG above `most_bytes`), SessionError, VolumeError."""
    digest, size = hashlib.sha256(), 0
    held = bytearray()
    first = last = b""
    writer: Writer | None = None
    try:
        async for piece in session.stream_file(inside, max_bytes=most_bytes):
            digest.update(piece)
            size += len(piece)
            held += piece
            first, last = first or piece[:END_BYTES], (last + piece)[-END_BYTES:]
            if len(held) > SMALL_BYTES:
                if writer is None:
                    writer = await asyncio.to_thread(place.open_writer, key)
                await asyncio.to_thread(writer.write, bytes(held))
                held.clear()
        if writer is None:
            await place.put(key, bytes(held))
        else:
            if held:
                await asyncio.to_thread(writer.write, bytes(held))
            await asyncio.to_thread(writer.close)
            writer = None
    finally:
        if writer is not None:
            with suppress(VolumeError):
                await asyncio.to_thread(writer.abort)
    return Copied(File(path, key, size, digest.hexdigest()), (first, last))


async def keep_texts(execution: Execution, place: Place) -> Said:
    """stdout, stderr and the value, whole where they are short, else cut here and whole in the volume."""
    trace = execution.error.traceback.encode("utf-8", "replace") if execution.error else b""
    stdout, out_file = await _text("stdout", execution.stdout, place)
    stderr, err_file = await _text("stderr", execution.stderr + trace, place)
    value = _cut((execution.text or "").encode("utf-8", "backslashreplace"))
    return Said(
        stdout=stdout, stderr=stderr, value=value, exit_code=execution.code, stdout_file=out_file, stderr_file=err_file
    )


async def keep_displays(execution: Execution, place: Place) -> tuple[Display, ...]:
    """Everything the code displayed, each type an object; small ones also travel with the outcome."""
    kept: list[Display] = []
    left_bytes = INLINE_LIMIT_BYTES
    bundles = [(0, execution.value or {}), *enumerate(execution.displays, start=1)]
    for item, bundle in bundles:
        for number, (kind, content) in enumerate(sorted(_worth_keeping(item, bundle).items())):
            key = place.key("display", f"{item}-{number}{_suffix(kind)}")
            sha256 = await place.put(key, content)
            data = content if len(content) <= left_bytes else b""
            left_bytes -= len(data)
            kept.append(Display(kind, key, len(content), sha256, item, data))
    return tuple(kept)


def _worth_keeping(item: int, bundle: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The value's text is in the outcome already; beside a figure or a table its text says nothing."""
    if item == 0 or len(bundle) > 1:
        return {kind: content for kind, content in bundle.items() if kind != TEXT_TYPE}
    return bundle


def _suffix(kind: str) -> str:
    return SUFFIXES.get(kind.partition(";")[0].strip(), ".bin")


async def _text(name: str, content: bytes, place: Place) -> tuple[str, File | None]:
    if len(content) <= TEXT_BYTES:
        return _cut(content), None
    key = place.key("text", name)
    return _cut(content), File(name, key, len(content), await place.put(key, content))


def _cut(content: bytes) -> str:
    """At most TEXT_BYTES as text; bytes that are not UTF-8 as `\\xff`."""
    return content[:TEXT_BYTES].decode("utf-8", "backslashreplace")


async def _search(session: Session, patterns: tuple[str, ...]) -> tuple[dict[str, Entry], int]:
    """Everything but folders that a pattern means, by path; and how many folders could not be looked into. Raises
    TooManyOutputs."""
    found: dict[str, Entry] = {}
    folders = [""] if patterns else []
    seen = closed = 0
    while folders:
        folder = folders.pop()
        try:
            entries = await session.list_files(f"{OUT}/{folder}", most=MOST_ENTRIES + 1 - seen)
        except FileRefused as error:
            closed += error.reason != "ENOENT"  # closed to its own user, or no descriptor is left; else removed
            continue
        seen += len(entries)
        if seen > MOST_ENTRIES:
            raise TooManyOutputs(f"more than {MOST_ENTRIES} files to look at", hint="write fewer, or one archive")
        for entry in entries:
            if not entry.name or "/" in entry.name or "\0" in entry.name or entry.name in (".", ".."):
                raise ProtocolBroken("a file name that is none")
            path = f"{folder}{entry.name}"
            if entry.kind == "folder" and path.count("/") < DEEPEST:
                folders.append(f"{path}/")
            elif entry.kind != "folder" and matches(patterns, path):
                found[path] = entry
    return found, closed


def _why_not_there(patterns: tuple[str, ...], found: Mapping[str, Entry]) -> WorkerError | None:
    """Whoever names one file wants it."""
    for pattern in filter(is_literal, patterns):
        meant = [entry for path, entry in found.items() if matches((pattern,), path)]
        if not meant:
            return OutputMissing(f"no output {pattern[:200]!r}", hint=f"write it below {OUT}, the working folder")
        if all(entry.kind != "file" for entry in meant):
            what = f"output {pattern[:200]!r} is a {meant[0].kind}, no regular file"
            return OutputOdd(what, hint="write a copy of it")
    return None


def _too_large(task: SandboxTask) -> OutputsTooLarge:
    return OutputsTooLarge(
        f"output files of more than {task.most_files_bytes} bytes together", hint="raise limits.files_bytes"
    )
