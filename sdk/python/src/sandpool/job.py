"""What a job is: one immutable unit of work, with an id that is its idempotency key.

A job never names its tenant: the tenant is the broker user who published it, which the broker itself verifies.
Built by services through `sandpool.SqlJob(...)`, decoded from the wire by `sandpool.wire`. No I/O here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from datetime import UTC, date, datetime
from datetime import time as wall_time
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from sandpool.errors import InvalidJob

Priority = Literal["interactive", "batch"]

MAX_TIMEOUT_S = 24 * 3600.0
MAX_SQL_BYTES = 768 * 1024
"""The policy has a far lower limit of its own; this one only keeps an envelope under the broker's size."""
MAX_PARAMS = 32_767
"""PostgreSQL's protocol counts bind parameters in a signed 16-bit integer."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")

# How soon and how often a job runs is not what it does: these may differ between two submissions of one id.
_NOT_IDENTITY = ("id", "priority", "timeout_s", "deadline", "max_attempts", "retention_s", "labels")


def new_job_id() -> str:
    """A sortable id: 48 bits of milliseconds and 80 random bits, in hexadecimal (the layout of UUIDv7 and ULID)."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class SqlJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One SQL statement on one registered database.

    Limits (`timeout_s`, `max_rows`, `max_bytes`) can only lower what the policy allows.

    Raises InvalidJob when a field is out of its range.
    """

    database: str
    sql: str
    params: tuple[Any, ...] = ()
    """Values for $1, $2, ...: JSON values. Others in PostgreSQL's text form; Python's date, datetime, time, Decimal,
    UUID and bytes are converted here."""
    id: str = msgspec.field(default_factory=new_job_id)
    writes: bool = False
    """The statement may change data, where the database's policy lists its kind and table."""
    priority: Priority = "batch"
    timeout_s: float = 60.0
    """Longest run time of one attempt in seconds."""
    deadline: datetime | None = None
    """Moment (with a time zone) after which nobody wants the result; None: none."""
    max_rows: int | None = None
    max_bytes: int | None = None
    """Most bytes of result, as Arrow buffers in memory."""
    volume: str = "results"
    retention_s: int | None = None
    """Seconds to keep the result after its ending; None: the volume's own default."""
    max_attempts: int = 3
    labels: dict[str, str] = {}
    """Free-form, shown in listings and events; no meaning to the scheduler."""

    def __post_init__(self) -> None:
        check_job_id(self.id)
        _require(bool(_NAME.fullmatch(self.database)), "database", "the name of a registered database: a-z 0-9 _ -")
        _require(bool(_NAME.fullmatch(self.volume)), "volume", "the name of a registered volume: a-z 0-9 _ -")
        _require(len(self.sql.encode("utf-8", "replace")) <= MAX_SQL_BYTES, "sql", f"at most {MAX_SQL_BYTES} bytes")
        _require(len(self.params) <= MAX_PARAMS, "params", f"at most {MAX_PARAMS} values")
        _require(0 < self.timeout_s <= MAX_TIMEOUT_S, "timeout_s", f"above 0, at most {MAX_TIMEOUT_S:g} seconds")
        _require(self.deadline is None or self.deadline.tzinfo is not None, "deadline", "needs a time zone")
        _require(self.max_rows is None or self.max_rows > 0, "max_rows", "above 0, or None")
        _require(self.max_bytes is None or self.max_bytes > 0, "max_bytes", "above 0, or None")
        _require(self.retention_s is None or self.retention_s > 0, "retention_s", "above 0, or None")
        _require(1 <= self.max_attempts <= 100, "max_attempts", "1 to 100")
        _require(len(self.labels) <= 16, "labels", "at most 16")
        for key, value in self.labels.items():
            _require(bool(_LABEL_KEY.fullmatch(key)), "labels", f"key {key[:80]!r}: a-z 0-9 _ . - and at most 63")
            _require(len(value) <= 256, "labels", f"value of {key!r}: at most 256 characters")
        if self.params:
            plain = tuple(_plain(value, f"params[{i}]") for i, value in enumerate(self.params))
            msgspec.structs.force_setattr(self, "params", plain)


Job = SqlJob
"""Union of every kind of job."""

KINDS: dict[str, type[Job]] = {"sql": SqlJob}
"""The envelope's `kind` -> the type of its `job`."""


def check_job_id(job_id: str) -> None:
    """Raises InvalidJob unless `job_id` can name a job: it becomes part of object keys."""
    _require(bool(_ID.fullmatch(job_id)), "id", "1 to 64 letters, digits, - or _, starting with a letter or digit")


def kind_of(job: Job) -> str:
    """The envelope's name for this kind of job."""
    return next(kind for kind, cls in KINDS.items() if type(job) is cls)


def digest(job: Job) -> str:
    """SHA-256 (hex) of what the job does: equal for two submissions of the same work under one id."""
    work = msgspec.to_builtins(job)
    for field in _NOT_IDENTITY:
        work.pop(field, None)
    return hashlib.sha256(msgspec.json.encode([kind_of(job), work], order="deterministic")).hexdigest()


def is_expired(job: Job, now: datetime) -> bool:
    """Whether nobody wants this job's result any more."""
    return job.deadline is not None and now.astimezone(UTC) >= job.deadline


def _require(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise InvalidJob(field, message)


def _plain(value: Any, field: str) -> Any:
    """A parameter as JSON carries it; whatever is not JSON becomes PostgreSQL's text form of it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            # JSON has no NaN and no infinities; PostgreSQL reads these words for every numeric type.
            return value if value - value == 0 else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
        case datetime() | date() | wall_time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case bytes() | bytearray():
            return "\\x" + bytes(value).hex()
        case list() | tuple():
            return [_plain(item, field) for item in value]
        case dict():
            return {str(key): _plain(item, field) for key, item in value.items()}
        case _:
            raise InvalidJob(field, f"no JSON form for {type(value).__name__}; pass its text form")
