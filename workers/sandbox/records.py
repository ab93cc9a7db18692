"""What a host remembers on disk of a tenant's sandbox: whose it is, of which image, until when. Checked when read back.

A record is the note of a snapshot (`snapshot.SnapshotMeta.note`): it is there exactly as long as the saved memory is.
Written by `kept`; what cannot be understood exactly is refused, never guessed. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from workers.sandbox.errors import SnapshotUnusable, SpecInvalid
from workers.sandbox.kinds import FIXED
from workers.sandbox.kinds import PREFIX as WARM_PREFIX
from workers.sandbox.limits import Limits
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.task import DatabaseFile

PAUSED: Literal["paused"] = "paused"
SAVED: Literal["saved"] = "saved"
MAX_TENANT_CHARACTERS = 255

Id = Annotated[str, msgspec.Meta(pattern=r"^(sb|sn)-[0-9a-f]{20}\Z")]
Tenant = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TENANT_CHARACTERS)]
ImageRef = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}@[0-9a-f]{64}\Z")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Since 1970, to the end of the year 9999: later moments no calendar of ours can show."""
MOST_FILES = 16


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A paused sandbox, or a snapshot that a tenant asked for. Times are seconds since 1970."""

    format: Literal[1] = 1
    use: Literal["paused", "saved"]
    id: Id
    tenant: Tenant
    image: ImageRef
    limits: dict[str, float | int]
    created_at_s: Seconds
    expires_at_s: Seconds | None = None
    idle_s: Seconds | None = None
    databases: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=63)], ...] = ()
    """Databases that it may reach. Of a snapshot none: whoever starts from it names them, and must have the right."""
    volume: Annotated[str, msgspec.Meta(max_length=63)] = ""
    """Where the audit trail of its statements is written."""
    files: Annotated[tuple[DatabaseFile, ...], msgspec.Meta(max_length=MOST_FILES)] = ()
    """Databases that it has as files, beside what is saved of it (`kept_files`). Of a snapshot none, alike."""
    label: Annotated[str, msgspec.Meta(max_length=200)] = ""

    @property
    def name(self) -> str:
        """Of its snapshot on the shelf."""
        return f"{self.use}-{self.id}"

    def note(self) -> dict[str, Any]:
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


def read_record(snapshot: Snapshot) -> Record:
    """Raises SnapshotUnusable for a note that is not exactly what `Record.note` writes for this snapshot."""
    try:
        record = msgspec.convert(snapshot.meta.note, Record)
        limits = Limits.from_dict(dict(record.limits))
    except (msgspec.ValidationError, SpecInvalid, TypeError) as error:
        raise SnapshotUnusable(f"{snapshot.name} says not whose it is", hint="remove it", detail=str(error)) from error
    digest = record.image.partition("@")[2]
    same_kind = all(getattr(limits, name) == snapshot.meta.limits.get(name) for name in FIXED)
    if record.name != snapshot.name or digest != snapshot.meta.key.image or not same_kind:
        raise SnapshotUnusable(f"{snapshot.name} says that it is something else", hint="remove it")
    return record


def is_warm(name: str) -> bool:
    """Whether this snapshot is nobody's: a host made it to start sandboxes from."""
    return name.startswith(WARM_PREFIX)
