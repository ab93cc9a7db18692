"""The description of a volume: a name, a root URL and how to reach it. Data only."""

from __future__ import annotations

from typing import Any

import msgspec


class VolumeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One named, versioned tree in an object store.

    `options` are obstore's own (for example `endpoint`, `region`, `access_key_id`): secrets, never shown to a tenant.
    """

    name: str
    url: str
    """`file:///dir`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory:///name` (one process only)."""
    options: dict[str, str] = {}
    retention_s: int | None = None
    """Seconds that results are kept when the job does not say; None: for ever."""

    shared: bool = False
    """A data set: every tenant that may use a sandbox may read all of it, and nobody's results are recorded in it."""

    def __repr__(self) -> str:
        return f"VolumeSpec(name={self.name!r}, url={self.url!r}, options=<secret>, retention_s={self.retention_s})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives every struct one, with all fields.
        return [("name", self.name), ("url", self.url), ("options", "<secret>"), ("retention_s", self.retention_s)]
