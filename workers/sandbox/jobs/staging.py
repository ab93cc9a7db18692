"""Brings the inputs of a job from their volumes into the folder that its sandbox sees at /in, read-only.

Called by `run` before any code runs. Copies, never links: a linked file would share owner and mode with the volume.
Names were checked in the job and are checked here again; nothing that exists is followed or replaced, for the folder is
new and only we write there. Blocking work happens in threads. Nothing is decoded.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from workers.sandbox.errors import SpecInvalid
from workers.sandbox.jobs.errors import InputChanged, InputMissing, InputTooLarge, StagingFailed
from workers.sandbox.task import Input
from workers.volumes.store import Volume

MOST_FILES = 10_000
MODE = 0o644
"""Inside runs another user, who must be able to read them."""


async def stage(inputs: Sequence[Input], volumes: Mapping[str, Volume], inbox: Path, most_bytes: int) -> int:
    """Bytes that lie in `inbox` now. Raises the Input errors, StagingFailed, VolumeError."""
    done = 0
    for wanted in inputs:
        done += await asyncio.to_thread(_stage_one, wanted, volumes[wanted.volume], inbox, most_bytes - done)
    return done


async def read_code(source: Input, volumes: Mapping[str, Volume], most_bytes: int) -> bytes:
    """The code of a job that lies in a volume. Errors as `stage`."""
    content = bytearray()

    def take(piece: bytes) -> None:
        content.extend(piece)
        if len(content) > most_bytes:
            raise InputTooLarge(f"{source.key}: more than {most_bytes} bytes of code")

    if await asyncio.to_thread(volumes[source.volume].fetch, source.key, take) is None:
        raise _missing(source, source.key)
    return bytes(content)


def _stage_one(wanted: Input, volume: Volume, inbox: Path, most_bytes: int) -> int:
    done = 0
    for key, path in _objects(wanted, volume):
        done += _copy(wanted, key, volume, _below(inbox, path), most_bytes - done)
    return done


def _objects(wanted: Input, volume: Volume) -> Iterator[tuple[str, str]]:
    """(key, path below /in) of each object that the input stands for."""
    if not wanted.key.endswith("/"):
        yield wanted.key, wanted.path
        return
    found = list(islice(volume.list(wanted.key), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise InputTooLarge(f"{wanted.volume}:{wanted.key} holds more than {MOST_FILES} objects")
    found = [meta for meta in found if not wanted.tables_only or is_table(wanted.key, meta.key)]
    if not found:
        raise _missing(wanted, wanted.key)
    for meta in found:
        yield meta.key, f"{wanted.path}/{meta.key.removeprefix(wanted.key)}"


def is_table(folder: str, key: str) -> bool:
    """Whether this object below the folder is a table of it, or part of one: `NAME.parquet`, `NAME/PART.parquet`."""
    return key.endswith(".parquet") and key.removeprefix(folder).count("/") <= 1


def _below(inbox: Path, path: str) -> Path:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise SpecInvalid("inputs", f"{path[:80]!r} is no path below /in")
    return inbox.joinpath(*pure.parts)


def _copy(wanted: Input, key: str, volume: Volume, target: Path, most_bytes: int) -> int:
    digest, done = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb", buffering=0) as file:

            def take(piece: bytes) -> None:
                nonlocal done
                done += len(piece)
                if done > most_bytes:
                    raise InputTooLarge("the inputs are larger than a job may have", hint="name fewer or smaller ones")
                digest.update(piece)
                try:
                    _write(file.fileno(), piece)
                except OSError as error:
                    raise _no_room(error) from error

            size = volume.fetch(key, take)
            os.fchmod(file.fileno(), MODE)
    except (FileExistsError, NotADirectoryError) as error:
        raise SpecInvalid("inputs", f"two inputs at {wanted.path[:80]!r}") from error
    except OSError as error:
        raise _no_room(error) from error
    if size is None:
        raise _missing(wanted, key)
    if wanted.sha256 and digest.hexdigest() != wanted.sha256:
        raise InputChanged(f"{wanted.volume}:{key} is not what was recorded")
    return done


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _missing(wanted: Input, key: str) -> InputMissing:
    return InputMissing(f"no object {wanted.volume}:{key}", hint="name an object by VOLUME:KEY, as manifests do")


def _no_room(error: OSError) -> StagingFailed:
    return StagingFailed(f"the host cannot store the inputs ({error.strerror})", hint="free space on the host's disk")
