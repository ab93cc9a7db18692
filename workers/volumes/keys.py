"""The names of objects in a volume, and the way back from a name to what it means. Pure.

    <tenant>/<job_id>/manifest.json                           the record: the job's single outcome
    <tenant>/<job_id>/audit-<trail>-00000.jsonl               what the job's sessions ran on a database
    <tenant>/<job_id>/<attempt_id>/part-00000.parquet         the data of one attempt
    <tenant>/_groups/<name>-<size>/<ending>/<job_id>          a job of a group has ended so
    <tenant>/_groups/<name>-<size>/complete.json              all of them have
    <tenant>/<job_id>/<attempt_id>/out/<path>                 an output file of its code
    <tenant>/<job_id>/<attempt_id>/display/1-0.png            what its code displayed
    <tenant>/<job_id>/<attempt_id>/text/stdout                what its code printed, where it is long
    <tenant>/_snapshots/<id>/...                              a sandbox's saved memory

The tenant comes first because a tenant chooses its own job ids: no id may reach another tenant's record. Called by
everything that reads or writes a volume; never touches one.

A tenant is an AMQP user name, that is, any text. Its first segment is that text where it consists of A-Z a-z 0-9 _ . -
and does not start with a dot; every other byte of its UTF-8 form becomes `!XX` (upper-case hexadecimal). `!` because
S3, GCS, Azure and POSIX all take it as it is, while obstore itself rewrites `%` and `~`, and `=` would read as a Hive
partition. So `..`, `a/b` and `ä` are harmless names of their own, and decode_tenant is the exact inverse. What cannot
be encoded (empty, over 255 bytes, a lone surrogate) is refused with UnsafeName, as is any odd job or attempt id.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from workers.errors import VolumeError

RECORD_NAME = "manifest.json"
SNAPSHOTS = "_snapshots"
Folder = Literal["out", "display", "text"]
FOLDERS: tuple[Folder, ...] = get_args(Folder)
"""Below an attempt: where what its code left lies."""
MAX_KEY_BYTES = 1024
"""S3's limit, the lowest of all stores."""
MAX_SEGMENT_BYTES = 255
"""NAME_MAX of every usual Linux filesystem."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_AUDIT = re.compile(r"audit-[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[0-9]{5,}\.jsonl")
_PART = re.compile(r"part-([0-9]{5})\.parquet")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
_KEY = re.compile(r"(?!\.)[A-Za-z0-9_.!=+@-]+(?:/(?!\.)[A-Za-z0-9_.!=+@-]+)*")
_ESCAPED = re.compile(rb"!([0-9A-F]{2})")
_UNSAFE_BYTE = re.compile(rb"^\.|[^A-Za-z0-9_.-]")


class UnsafeName(VolumeError):
    """A tenant, job, attempt or key that no object may be named after."""

    code = "volume.name"


@dataclass(frozen=True, slots=True)
class DataName:
    """Whose an object is that holds data of an attempt."""

    tenant: str
    job_id: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """Whose a file of a sandbox's snapshot is, and of which."""

    tenant: str
    snapshot_id: str
    file: str


@dataclass(frozen=True, slots=True)
class RecordName:
    """What the key of a record says."""

    tenant: str
    job_id: str


def tenant_prefix(tenant: str) -> str:
    """Prefix of everything that belongs to this tenant, with its slash."""
    return f"{encode_tenant(tenant)}/"


def job_prefix(tenant: str, job_id: str) -> str:
    """Prefix of this job's record and data, with its slash."""
    return f"{encode_tenant(tenant)}/{_checked_id(job_id, 'job id')}/"


def record_key(tenant: str, job_id: str) -> str:
    """Key of the job's single record."""
    return f"{encode_tenant(tenant)}/{_checked_id(job_id, 'job id')}/{RECORD_NAME}"


def group_prefix(tenant: str, name: str, size: int) -> str:
    """Prefix of what is known of one job group, with its slash. No job id begins with `_`."""
    return f"{encode_tenant(tenant)}/_groups/{_checked_id(name, 'group name')}-{size}/"


def snapshot_key(tenant: str, snapshot_id: str, name: str) -> str:
    """Key of one file of a sandbox's snapshot. No job id begins with `_`."""
    return check_key(f"{encode_tenant(tenant)}/{SNAPSHOTS}/{_checked_id(snapshot_id, 'snapshot id')}/{name}")


def parse_snapshot_key(key: str) -> SnapshotName | None:
    """Inverse of snapshot_key; None for every other key."""
    segments = key.split("/")
    if len(segments) != 4 or segments[1] != SNAPSHOTS or not _ID.fullmatch(segments[2]):
        return None
    tenant = decode_tenant(segments[0])
    return None if tenant is None else SnapshotName(tenant, segments[2], segments[3])


def part_key(tenant: str, job_id: str, attempt_id: str, number: int) -> str:
    """Key of one data file of one attempt; `number` counts from 0 to 99,999."""
    if not 0 <= number <= 99_999:
        raise UnsafeName(f"part number {number} is outside 0 to 99999")
    attempt = _checked_id(attempt_id, "attempt id")
    return f"{encode_tenant(tenant)}/{_checked_id(job_id, 'job id')}/{attempt}/part-{number:05d}.parquet"


def output_key(tenant: str, job_id: str, attempt_id: str, folder: Folder, path: str) -> str:
    """Key of a file that code left, `path` being its name inside. Whatever the name is, there is a key for it: one that
    is too long becomes its SHA-256."""
    prefix = f"{job_prefix(tenant, job_id)}{_checked_id(attempt_id, 'attempt id')}/{folder}/"
    name = "/".join(_encode_segment(segment) for segment in path.split("/") if segment)
    fits = len(prefix) + len(name) <= MAX_KEY_BYTES and max(map(len, name.split("/"))) <= MAX_SEGMENT_BYTES
    return prefix + (name if name and fits else f"sha256-{hashlib.sha256(_bytes_of(path)).hexdigest()}")


def audit_key(tenant: str, job_id: str, trail: str, number: int) -> str:
    """Key of one piece of an audit trail of this job; `trail` tells the job's trails apart."""
    name = f"audit-{_checked_id(trail, 'trail')}-{number:05d}.jsonl"
    return f"{encode_tenant(tenant)}/{_checked_id(job_id, 'job id')}/{name}"


def parse_audit_key(key: str) -> RecordName | None:
    """Whose audit trail this is a piece of; None for every other key."""
    segments = key.split("/")
    if len(segments) != 3 or not _AUDIT.fullmatch(segments[2]) or not _ID.fullmatch(segments[1]):
        return None
    tenant = decode_tenant(segments[0])
    return None if tenant is None else RecordName(tenant, segments[1])


def parse_data_key(key: str) -> DataName | None:
    """What the key of a data file or output of an attempt says; None for every other key."""
    segments = key.split("/")
    if len(segments) < 4 or not _ID.fullmatch(segments[1]) or not _ID.fullmatch(segments[2]):
        return None
    is_part = len(segments) == 4 and bool(_PART.fullmatch(segments[3]))
    is_output = len(segments) > 4 and segments[3] in FOLDERS
    tenant = decode_tenant(segments[0])
    return DataName(tenant, segments[1], segments[2]) if tenant is not None and (is_part or is_output) else None


def parse_record_key(key: str) -> RecordName | None:
    """Inverse of record_key; None for every other key."""
    segments = key.split("/")
    if len(segments) != 3 or segments[2] != RECORD_NAME or not _ID.fullmatch(segments[1]):
        return None
    tenant = decode_tenant(segments[0])
    return None if tenant is None else RecordName(tenant, segments[1])


def encode_tenant(tenant: str) -> str:
    """The tenant as one path segment (module docstring). Raises UnsafeName."""
    if _PLAIN.fullmatch(tenant):
        return tenant
    try:
        raw = tenant.encode()
    except UnicodeEncodeError as error:
        raise UnsafeName("a tenant name that is not valid Unicode", hint="rename this AMQP user") from error
    encoded = _UNSAFE_BYTE.sub(lambda match: b"!%02X" % match[0][0], raw).decode("ascii")
    if not 0 < len(encoded) <= MAX_SEGMENT_BYTES:
        hint = f"name the AMQP user with 1 to {MAX_SEGMENT_BYTES} of A-Z a-z 0-9 _ . -"
        raise UnsafeName(f"a tenant name of {len(encoded)} bytes after encoding", hint=hint)
    return encoded


def _encode_segment(name: str) -> str:
    return _UNSAFE_BYTE.sub(lambda match: b"!%02X" % match[0][0], _bytes_of(name)).decode("ascii")


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def decode_tenant(segment: str) -> str | None:
    """Inverse of encode_tenant; None for text that encode_tenant never makes."""
    if _PLAIN.fullmatch(segment):
        return segment
    try:
        tenant = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), segment.encode("ascii")).decode()
        return tenant if encode_tenant(tenant) == segment else None
    except (UnicodeError, UnsafeName):
        return None


def check_key(key: str) -> str:
    """The key itself when any store can hold it and it stays under the volume's root. Raises UnsafeName.

    Held for every call on a volume, because keys also come from records and callers that may be wrong.
    """
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key) or max(map(len, key.split("/"))) > MAX_SEGMENT_BYTES:
        raise UnsafeName(f"unsafe object name {key[:80]!r}", hint="use A-Z a-z 0-9 _ . ! = + @ -, no leading dot")
    return key


def first_job_id_since(moment: datetime) -> str:
    """Where ids made by `sandpool.job.new_job_id` from this moment on begin: they start with their milliseconds."""
    return f"{max(0, int(moment.timestamp() * 1000)):012x}"


def _checked_id(value: str, what: str) -> str:
    if not _ID.fullmatch(value):
        raise UnsafeName(f"unsafe {what} {value[:80]!r}", hint="1 to 64 of A-Z a-z 0-9 _ -, first a letter or digit")
    return value
