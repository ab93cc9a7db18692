"""An image as a sandbox sees it: a root filesystem on this machine, who runs in it and with which environment.

Made by `workers.images.store` from a built image; read by `bundle` and `snapshot`. Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workers.sandbox.errors import SpecInvalid
from workers.sandbox.limits import Limits

SANDBOX_UID = 10_000
"""User and group inside every sandbox, named `sandpool` in images built here. Above the ids of people and of Debian's
own services, so that a file which a sandbox writes into a mounted folder belongs to nobody on the host."""

HOME = "/home/sandpool"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One built image. Raises SpecInvalid when it could not hold: root as user, or a relative root filesystem."""

    name: str
    digest: str
    """64 hex digits: the version."""
    rootfs: Path
    uid: int = SANDBOX_UID
    gid: int = SANDBOX_UID
    home: str = HOME
    """Home and working folder; writable, in memory, of `Limits.disk_bytes`."""
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """What an imported image starts by default; empty for images built here."""
    warm_imports: tuple[str, ...] = ()
    """Python modules that a warm sandbox has imported before its snapshot."""
    ceiling: Limits = field(default_factory=Limits)
    """The most that a sandbox of this image may ask for."""

    def __post_init__(self) -> None:
        if self.uid <= 0 or self.gid <= 0:
            raise SpecInvalid("image.uid", f"nobody runs as root in a sandbox (uid {self.uid}, gid {self.gid})")
        if not self.rootfs.is_absolute():
            raise SpecInvalid("image.rootfs", "an absolute path")

    @property
    def ref(self) -> str:
        """`name@digest`, the digest shortened to 12 digits."""
        return f"{self.name}@{self.digest[:12]}"
