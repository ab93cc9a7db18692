"""A `sql` job: one statement on one registered database, and optionally Python that makes something of its result."""

from __future__ import annotations

from datetime import date, datetime
from datetime import time as wall_time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from sandpool.errors import InvalidJob
from sandpool.job.extraction import Extraction
from sandpool.job.fields import Group, Priority, check_name, check_submission, new_job_id, require

MAX_SQL_BYTES = 768 * 1024
"""The policy has a far lower limit of its own; this one only keeps an envelope under the broker's size."""
MAX_TRANSFORM_BYTES = 256 * 1024
MAX_PARAMS = 32_767
"""PostgreSQL's protocol counts bind parameters in a signed 16-bit integer."""


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
    group: Group | None = None
    transform: str = ""
    """Python that runs in a sandbox of image `data` with the result as `table` (pyarrow) and `df` (pandas); the table
    that it leaves as `result` becomes the job's result."""
    extraction: Extraction | None = None
    """Read along a column: in parallel key ranges, or only what is new. For reads without parameters."""

    def __post_init__(self) -> None:
        check_submission(self)
        check_name(self.database, "database", "database")
        require(len(self.sql.encode("utf-8", "replace")) <= MAX_SQL_BYTES, "sql", f"at most {MAX_SQL_BYTES} bytes")
        require(len(self.params) <= MAX_PARAMS, "params", f"at most {MAX_PARAMS} values")
        require(self.max_rows is None or self.max_rows > 0, "max_rows", "above 0, or None")
        require(self.max_bytes is None or self.max_bytes > 0, "max_bytes", "above 0, or None")
        size = len(self.transform.encode("utf-8", "surrogatepass"))
        require(size <= MAX_TRANSFORM_BYTES, "transform", f"{size} bytes, at most {MAX_TRANSFORM_BYTES}")
        require(not (self.transform and self.writes), "transform", "only for jobs that read")
        if self.extraction is not None:
            require(not self.writes, "extraction", "only for jobs that read")
            require(not self.transform, "extraction", "not with a transform: give that to a job of its own")
            require(not self.params, "extraction", "not with params: write the values into the text")
        if self.params:
            plain = tuple(_plain(value, f"params[{i}]") for i, value in enumerate(self.params))
            msgspec.structs.force_setattr(self, "params", plain)


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
