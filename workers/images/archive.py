"""Reads an OCI image archive as data: its manifest, its configuration, the members of its layers. Called by
`importing`.

An archive is hostile until the contrary is proved: every blob is checked against its SHA-256 before it is used, sizes
are bounded, and `merge` decides what the tree is before anything of it is on disk. Why not skopeo and umoci: they
would have to be installed, they run as root, and they follow links on the real disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from workers.images.errors import ArchiveInvalid
from workers.images.headers import BoundedHeader
from workers.images.merge import Folder, Merger

MAX_JSON_BYTES = 4 * 1024 * 1024

_Stream = tarfile._Stream  # type: ignore[attr-defined]
"""What tarfile reads from in its streaming mode; knows how far it has come."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(kw_only=True)
class Archive:
    """An opened archive: its configuration and how to read its layers."""

    digest: str
    """SHA-256 of the manifest: the archive's own identity."""
    config: dict[str, Any]
    layers: tuple[str, ...]
    blobs: Blobs

    def merge(self) -> Folder:
        """The tree of all layers. Raises ArchiveInvalid."""
        merger = Merger()
        for number, layer in enumerate(self.layers):
            try:
                with self.blobs.open_layer(layer) as stream:
                    merger.lay_over(_members(stream), number)
            except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
                raise ArchiveInvalid(f"layer {number} is damaged", hint="export the image again") from error
        return merger.root

    def contents(self, layer: int) -> Iterator[tuple[str, IO[bytes]]]:
        """(member, its bytes) of every regular file of one layer, in the layer's order. Read each before the next."""
        with self.blobs.open_layer(self.layers[layer]) as stream:
            for member in _members(stream):
                if member.isreg() and (content := stream.extractfile(member)) is not None:
                    yield member.name, content


@dataclass
class Blobs:
    """The blobs of one archive: a tar file or an unpacked OCI layout folder."""

    path: Path
    _checked: set[str] = field(default_factory=set)

    def read_json(self, name: str) -> Any:
        with self._open(name) as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ArchiveInvalid(f"{name} is larger than {MAX_JSON_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ArchiveInvalid(f"{name} is not JSON") from error

    def read_blob_json(self, digest: str) -> Any:
        self._check(digest)
        return self.read_json(_blob_name(digest))

    def open_layer(self, digest: str) -> tarfile.TarFile:
        """The layer as a stream of tar members, checked against its digest before."""
        self._check(digest)
        raw = self._open(_blob_name(digest))
        magic = raw.read(4)
        raw.seek(0)
        try:
            if magic[:2] == b"\x1f\x8b":
                return tarfile.open(fileobj=raw, mode="r|gz", tarinfo=BoundedHeader)
            if magic == b"\x28\xb5\x2f\xfd":
                unpacked = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
                return tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="r|", tarinfo=BoundedHeader)
            return tarfile.open(fileobj=raw, mode="r|", tarinfo=BoundedHeader)
        except (tarfile.TarError, OSError, EOFError, RecursionError) as error:
            raise ArchiveInvalid(f"layer {digest[7:19]} is no tar archive", hint="export the image again") from error

    def _check(self, digest: str) -> None:
        if digest in self._checked:
            return
        with self._open(_blob_name(digest)) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != f"sha256:{found}":
            raise ArchiveInvalid(f"blob {digest[7:19]} is damaged", hint="export the image again")
        self._checked.add(digest)

    def _open(self, name: str) -> io.BufferedReader:
        try:
            if self.path.is_dir():
                file = self.path / name
                if file.is_symlink():
                    raise ArchiveInvalid(f"{name} is a link")
                return file.open("rb")
            return self._member(name)
        except FileNotFoundError as error:
            raise ArchiveInvalid(
                f"{name} is missing: no OCI archive", hint="make one: `skopeo copy IMAGE oci-archive:FILE`"
            ) from error

    def _member(self, name: str) -> io.BufferedReader:
        """A window on the archive file itself: blobs are not compressed again, so nothing is copied."""
        try:
            with tarfile.open(self.path, mode="r:") as outer:
                for member in outer:
                    if member.name.removeprefix("./") == name and member.isreg():
                        return io.BufferedReader(_Window(self.path, member.offset_data, member.size))
        except tarfile.TarError as error:
            raise ArchiveInvalid(
                "no OCI archive: not an uncompressed tar file", hint="make one with `skopeo copy`"
            ) from error
        raise FileNotFoundError(name)


class _Window(io.RawIOBase):
    """Bytes [offset, offset + size) of a file."""

    def __init__(self, path: Path, offset: int, size_bytes: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._offset, self._size_bytes, self._at = offset, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size_bytes - self._at))
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def open_archive(path: Path, architecture: str = "amd64") -> Archive:
    """An OCI archive (tar) or layout folder. Raises ArchiveInvalid when it is none or holds no image for us."""
    if not path.exists():
        raise ArchiveInvalid(f"there is no file {path.name}")
    blobs = Blobs(path)
    entries = _list(blobs.read_json("index.json"), "manifests")
    for _ in range(3):  # an index may point to another index
        digest = _choose(entries, architecture)
        manifest = blobs.read_blob_json(digest)
        if not isinstance(manifest, dict) or "manifests" not in manifest:
            break
        entries = _list(manifest, "manifests")
    config = blobs.read_blob_json(_digest_of(manifest.get("config")))
    layers = tuple(_digest_of(layer) for layer in _list(manifest, "layers"))
    if not layers or not isinstance(config, dict) or config.get("architecture", architecture) != architecture:
        raise ArchiveInvalid(f"no image for {architecture} in this archive")
    details = config.get("config") or {}
    return Archive(digest=digest[7:], config=details if isinstance(details, dict) else {}, layers=layers, blobs=blobs)


def _members(stream: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member. umoci (0.4) leaves out the padding after the last one: nothing of its content is missing then."""
    last: tarfile.TarInfo | None = None
    try:
        for member in stream:
            last = member
            yield member
    except tarfile.ReadError:
        read_bytes: int = stream.fileobj.pos if isinstance(stream.fileobj, _Stream) else 0
        if last is None or read_bytes < last.offset_data + last.size:
            raise


def _choose(entries: list[Any], architecture: str) -> str:
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict) or platform.get("architecture") == architecture:
            return _digest_of(entry)
    raise ArchiveInvalid(f"no image for {architecture} in this archive")


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ArchiveInvalid(f"no list {key!r} where the OCI layout has one")
    return found


def _digest_of(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ArchiveInvalid("a descriptor without a SHA-256 digest")
    return digest


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"
