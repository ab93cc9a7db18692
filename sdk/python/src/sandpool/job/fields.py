"""Which values the fields of a job may have: the checks that several kinds share. Pure; called by their structs."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from sandpool.errors import InvalidJob

Priority = Literal["interactive", "batch"]

MAX_TIMEOUT_S = 24 * 3600.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_KEY_SEGMENT = re.compile(r"[A-Za-z0-9_!=+@-][A-Za-z0-9_.!=+@-]{0,254}")
MAX_KEY_BYTES = 1024
MAX_GROUP = 10_000_000


class Submitted(Protocol):
    """What every kind of job says about how soon, how often and where."""

    @property
    def id(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def deadline(self) -> datetime | None: ...
    @property
    def volume(self) -> str: ...
    @property
    def retention_s(self) -> int | None: ...
    @property
    def max_attempts(self) -> int: ...
    @property
    def labels(self) -> dict[str, str]: ...


def new_job_id() -> str:
    """A sortable id: 48 bits of milliseconds and 80 random bits, in hexadecimal (the layout of UUIDv7 and ULID)."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def require(holds: bool, field: str, message: str) -> None:
    """Raises InvalidJob unless it holds."""
    if not holds:
        raise InvalidJob(field, message)


def check_types(value: Any, prefix: str = "") -> None:
    """Raises InvalidJob where a field of this struct holds something else than its annotation says: a text where a
    tuple of texts is meant would else be taken letter by letter. A list becomes a tuple."""
    for name, kind, default in _FIELDS.get(type(value)) or _fields_of(type(value)):
        held = getattr(value, name)
        if held is default or type(held) is kind or (kind is str and isinstance(held, str)):
            continue
        try:
            plain = msgspec.convert(held, kind)
        except msgspec.ValidationError as error:
            what = _JSON_WORDS.sub(lambda word: _PYTHON_WORDS[word[0]], str(error))
            raise InvalidJob(prefix + name, f"{what} ({repr(held)[:80]})") from None
        if plain is not held:
            msgspec.structs.force_setattr(value, name, plain)


_PYTHON_WORDS = {"`": "", "Expected": "expected", "array": "tuple or list", "object": "dict", "null": "None"}
_JSON_WORDS = re.compile("|".join(_PYTHON_WORDS))


_FIELDS: dict[type, list[tuple[str, Any, Any]]] = {}
"""Kind of struct -> its fields with their types and defaults."""


def _fields_of(kind: type) -> list[tuple[str, Any, Any]]:
    found = _FIELDS[kind] = [(field.name, field.type, field.default) for field in msgspec.structs.fields(kind)]
    return found


def check_job_id(job_id: str) -> None:
    """Raises InvalidJob unless `job_id` can name a job: it becomes part of object keys."""
    require(bool(_ID.fullmatch(job_id)), "id", "1 to 64 letters, digits, - or _, starting with a letter or digit")


def check_name(name: str, field: str, what: str) -> None:
    """Raises InvalidJob unless `name` can be the registered name of a database or volume."""
    require(bool(_NAME.fullmatch(name)), field, f"the name of a registered {what}: a-z 0-9 _ -")


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Jobs that belong together: when `size` of them have ended, one completion event is published.

    Raises InvalidJob when a field is out of its range.
    """

    name: str
    """Chosen by the tenant, in the alphabet of job ids: `nightly-2026-11-26`."""
    size: int
    """How many jobs the group has; the same in each of them."""

    def __post_init__(self) -> None:
        check_types(self, "group.")
        require(bool(_ID.fullmatch(self.name)), "group.name", "1 to 64 letters, digits, - or _, no - or _ first")
        require(1 <= self.size <= MAX_GROUP, "group.size", f"1 to {MAX_GROUP}")


def check_submission(job: Submitted) -> None:
    """The types of all fields, and the values of those that every kind of job has. Raises InvalidJob."""
    check_types(job)
    check_job_id(job.id)
    check_name(job.volume, "volume", "volume")
    require(0 < job.timeout_s <= MAX_TIMEOUT_S, "timeout_s", f"above 0, at most {MAX_TIMEOUT_S:g} seconds")
    require(job.deadline is None or job.deadline.tzinfo is not None, "deadline", "needs a time zone")
    require(job.retention_s is None or job.retention_s > 0, "retention_s", "above 0, or None")
    require(1 <= job.max_attempts <= 100, "max_attempts", "1 to 100")
    check_labels(job.labels)


def check_labels(labels: Mapping[str, str], field: str = "labels") -> None:
    """Raises InvalidJob unless these can be labels."""
    require(len(labels) <= 16, field, "at most 16")
    for key, value in labels.items():
        require(bool(_LABEL_KEY.fullmatch(key)), field, f"key {key[:80]!r}: a-z 0-9 _ . - and at most 63")
        require(len(value) <= 256, field, f"value of {key!r}: at most 256 characters")


def check_object(text: str, field: str) -> tuple[str, str]:
    """(volume, key) of `VOLUME:KEY`; a key that ends with a slash means everything below it. Raises InvalidJob."""
    volume, colon, key = text.partition(":")
    require(bool(colon), field, f"{text[:80]!r} is no VOLUME:KEY, for example results:acme/data/flights.parquet")
    check_name(volume, field, "volume")
    segments = key.removesuffix("/").split("/")
    holds = len(key) <= MAX_KEY_BYTES and all(map(_KEY_SEGMENT.fullmatch, segments))
    require(
        bool(holds), field, f"{key[:80]!r} is no key in a volume: A-Z a-z 0-9 _ . ! = + @ -, no leading dot or slash"
    )
    return volume, key


def check_texts(texts: Sequence[str], field: str, *, most: int, longest: int) -> None:
    """Raises InvalidJob unless there are at most `most` of them, none empty, too long or with a NUL."""
    require(len(texts) <= most, field, f"at most {most}")
    for text in texts:
        fits = 0 < len(text.encode("utf-8", "surrogatepass")) <= longest and "\0" not in text
        require(fits, field, f"{text[:80]!r}: 1 to {longest} bytes without NUL")
