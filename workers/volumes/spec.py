"""The description of a volume: a name, a root URL and how to reach it. Data only."""

from __future__ import annotations

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
