"""What a volume can do, and how one is opened. The rest of Sandpool sees object stores only through this door.

Called by the scheduler (records), the pools (data), the sweeper and the command line. Two things stand behind it:
`workers.volumes.local` for file://, `workers.volumes.remote` (obstore) for s3://, gs://, az:// and memory://; both pass
the same suite. Never interprets what is stored.

Everything here rests on one promise: `create` and a writer's `close` publish a whole object or nothing, and of several
`create`s of one key exactly one returns True. Objects are never overwritten.

Errors: VolumeUnavailable, VolumeFull, VolumeCorrupt, keys.UnsafeName; ConfigurationError from open_volume alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from urllib.parse import unquote, urlsplit

from workers.errors import ConfigurationError
from workers.volumes.local import LocalVolume
from workers.volumes.objects import ObjectMeta
from workers.volumes.remote import open_remote
from workers.volumes.spec import VolumeSpec

REMOTE_SCHEMES = ("s3", "gs", "az", "memory")


class Writer(Protocol):
    """One object that is being written; it becomes visible, whole, when `close` returns. Not thread-safe."""

    def write(self, data: bytes) -> int: ...

    def close(self) -> None:
        """Publish the object. Raises VolumeCorrupt when the key is taken (file:// only: elsewhere it is replaced)."""

    def abort(self) -> None:
        """Forget what was written; nothing becomes visible. Harmless after `close` or a second time."""


class Volume(Protocol):
    """A tree of objects. Blocking calls may be made from any thread; the async twins never block the event loop on a
    network. Every remote call ends within the volume's deadline."""

    name: str
    url: str
    """Root, safe to show: no credential in it."""

    def create(self, key: str, data: bytes) -> bool:
        """Create-only put: False, and nothing changed, when the key exists."""

    def get(self, key: str, *, limit_bytes: int | None = None) -> bytes | None:
        """The object; None when there is none. Raises VolumeCorrupt above `limit_bytes`."""

    def fetch(self, key: str, write: Callable[[bytes], object]) -> int | None:
        """Hand the object to `write` piece by piece; its size, or None when there is none. What `write` raises ends it.

        For objects too large to hold in memory. Blocking.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these; the missing are ignored."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectMeta]:
        """Objects under `prefix` (empty, or ending with a slash) in byte order of keys, from after `start_after`."""

    def open_writer(self, key: str) -> Writer:
        """A streaming writer with a few MiB of buffers, for objects too large to hold in memory."""

    async def acreate(self, key: str, data: bytes) -> bool: ...

    async def aget(self, key: str, *, limit_bytes: int | None = None) -> bytes | None: ...


def open_volume(spec: VolumeSpec) -> Volume:
    """The volume that `spec` describes. No network traffic: an unreachable store shows at the first call.

    `options` are obstore's own, and two of ours: `deadline_s` (remote, default 60: longest wait of one call) and
    `fsync` (file, default false: whether `create` waits for the disk, see workers.volumes.local).
    A file:// root is made when it is missing now; one that vanishes later is an error, never made again.
    """
    parts = urlsplit(spec.url)
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ConfigurationError(f"volume {spec.name}: the URL may hold no credential, query or fragment: use options")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError(f"volume {spec.name}: a file volume is file:///absolute/folder")
        return LocalVolume(spec.name, spec.url, unquote(parts.path), dict(spec.options))
    if parts.scheme in REMOTE_SCHEMES:
        return open_remote(spec.name, spec.url, dict(spec.options))
    known = ", ".join(("file", *REMOTE_SCHEMES))
    raise ConfigurationError(f"volume {spec.name}: scheme {parts.scheme[:20]!r} is none of {known}")
