"""Writes OCI image archives, honest and hostile ones. Used by the tests of images."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Member:
    """One member of a layer."""

    name: str
    kind: bytes = tarfile.REGTYPE
    content: bytes = b""
    target: str = ""
    mode: int = 0o755
    uid: int = 0


def layer(members: Sequence[Member]) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as stream:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.mode, info.uid = member.kind, member.target, member.mode, member.uid
            info.size = len(member.content) if member.kind == tarfile.REGTYPE else 0
            stream.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def write_archive(
    path: Path,
    layers: Sequence[Sequence[Member]],
    *,
    config: dict[str, Any] | None = None,
    compress: Callable[[bytes], bytes] = bytes,
    architecture: str = "amd64",
) -> Path:
    """An OCI archive at `path`, as `skopeo copy ... oci-archive:PATH` makes it."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    descriptors = [put(compress(layer(members))) for members in layers]
    details = put(json.dumps({"architecture": architecture, "os": "linux", "config": config or {}}).encode())
    manifest = put(json.dumps({"schemaVersion": 2, "config": details, "layers": descriptors}).encode())
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"manifests": [manifest]}).encode(),
    }
    with tarfile.open(path, "w") as outer:
        for name, content in {**files, **blobs}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            outer.addfile(info, io.BytesIO(content))
    return path
