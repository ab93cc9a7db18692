"""The messages on the broker: versioned JSON envelopes, and the names that both sides must agree on.

    {"v": 1, "kind": "sql", "job": {...}}               a job            exchange sandpool.jobs,    key sql.batch
    {"v": 1, "kind": "python", "job": {...}}            code, likewise `command`                    key cpu.batch
    {"v": 1, "kind": "outcome", "body": {...}}          an outcome       the reply queue; exchange sandpool.events
    {"v": 1, "kind": "group", "body": {...}}            a group's end    exchange sandpool.events, key group.acme.x
    {"v": 1, "kind": "control", "body": {...}}          a control call   exchange sandpool.control, key control
    {"v": 1, "kind": "status", "body": {...}}           its answer       the reply queue

Strict both ways: an unknown version, kind or field is an error that says so, never a guess. Golden files of every
version lie in tests/unit/golden. docs/message-format.md is the prose. No I/O here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from sandpool.errors import InvalidEnvelope, InvalidJob
from sandpool.job import KINDS, Job, SqlJob, check_job_id, kind_of
from sandpool.outcome import Outcome, without_data

VERSION = 1
MAX_ENVELOPE_BYTES = 1024 * 1024
CONTENT_TYPE = "application/vnd.sandpool+json"

JOBS_EXCHANGE = "sandpool.jobs"
EVENTS_EXCHANGE = "sandpool.events"
CONTROL_EXCHANGE = "sandpool.control"
CONTROL_KEY = "control"
REPLY_PREFIX = "sandpool.reply."
"""A reply queue is `sandpool.reply.<tenant>.<random>`: broker permissions and the scheduler both check the tenant."""

Offset = Annotated[int, msgspec.Meta(ge=0)]


class ControlCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a client asks about one of its own jobs. `volume` is where the job's outcome is recorded."""

    action: Literal["cancel", "status", "explain", "output"]
    job_id: str
    volume: str = "results"
    digest: str = ""
    """Digest of the job where the caller knows it, so that a cancelled id is bound to its work."""
    stdout_from: Offset = 0
    stderr_from: Offset = 0
    """Of `output`: the bytes that the caller has got already."""

    def __post_init__(self) -> None:
        check_job_id(self.job_id)


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Why a job is where it is. `reason` is a sentence for people, `code` the error or placement behind it."""

    state: Literal["waiting", "running", "returned", "ended", "unknown"]
    """`waiting` for a slot; `returned`: in the broker until its next attempt; `unknown`: queued, or never seen."""
    reason: str
    code: str = ""
    attempt: int = 0
    node: str = ""
    since_s: float = 0.0
    """How long it has been waiting or running."""
    in_line: int = 0
    """How many of the same tenant wait in the same line, this one too."""


class JobStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Answer to a `status` call: `running` here, `ended` (with the outcome), or `unknown`: queued or never seen.

    To an `output` call also what the running attempt has written beyond the offsets: bytes out of a sandbox.
    """

    job_id: str
    state: Literal["running", "ended", "unknown"]
    outcome: Outcome | None = None
    why: Explanation | None = None
    """In the answer to an `explain` call."""
    attempt: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


class GroupEnding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The completion of a job group: event `group.<tenant>.<name>`. May come twice after a crash: it says the same."""

    tenant: str
    name: str
    size: int
    endings: dict[str, int]
    """Ending -> how many jobs ended so."""
    ended_at: datetime


class _Head(msgspec.Struct, frozen=True):
    v: int
    kind: str


class _JobEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    kind: str
    job: msgspec.Raw


class _BodyEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    kind: str
    body: msgspec.Raw


_head = msgspec.json.Decoder(_Head)
_job_envelope = msgspec.json.Decoder(_JobEnvelope)
_body_envelope = msgspec.json.Decoder(_BodyEnvelope)
_job_bodies: dict[str, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(cls) for kind, cls in KINDS.items()}
_bodies: dict[str, msgspec.json.Decoder[Any]] = {
    "outcome": msgspec.json.Decoder(Outcome),
    "control": msgspec.json.Decoder(ControlCall),
    "group": msgspec.json.Decoder(GroupEnding),
    "status": msgspec.json.Decoder(JobStatus),
}
_encoder = msgspec.json.Encoder()


_WHERE_LONG_GOES = {
    "sql": "send fewer parameters, in several jobs, or put them into a table of the database",
    "python": "put code into a volume (file='VOLUME:KEY', its key begins with TENANT/), data too "
    "(inputs={'name': 'VOLUME:KEY'})",
    "command": "put data into a volume (inputs={'name': 'VOLUME:KEY'}, its key begins with TENANT/) and read it from "
    "/in/name",
}


def job_routing_key(job: Job) -> str:
    """`<need>.<priority>`: a `sql` job needs a pool, code a sandbox, and perhaps a graphics card."""
    need = "sql" if isinstance(job, SqlJob) else "gpu" if job.gpu is not None else "cpu"
    return f"{need}.{job.priority}"


def encode_job(job: Job) -> bytes:
    """The envelope of a job. Raises InvalidEnvelope: `oversized` above MAX_ENVELOPE_BYTES, `malformed` for text that is
    no Unicode."""
    try:
        data = _encoder.encode({"v": VERSION, "kind": kind_of(job), "job": job})
    except UnicodeEncodeError as error:
        lone = error.object[error.start : error.start + 1]
        raise InvalidEnvelope(
            "malformed", f"the job holds {lone!r}, half of a surrogate pair, which no UTF-8 can carry: replace it"
        ) from error
    if len(data) > MAX_ENVELOPE_BYTES:
        message = f"job of {len(data)} bytes; at most {MAX_ENVELOPE_BYTES}: {_WHERE_LONG_GOES[kind_of(job)]}"
        raise InvalidEnvelope("oversized", message)
    return data


def decode_job(data: bytes) -> Job:
    """The job in an envelope. Raises InvalidEnvelope with the reason in `code`."""
    kind = _check_head(data, known=tuple(_job_bodies))
    try:
        job: Job = _job_bodies[kind].decode(_job_envelope.decode(data).job)
    except (msgspec.DecodeError, InvalidJob, RecursionError) as error:
        raise InvalidEnvelope("field", f"{kind} job: {error}") from error
    return job


def encode_outcome(outcome: Outcome) -> bytes:
    """The message that carries an outcome, inline data included."""
    return _encoder.encode({"v": VERSION, "kind": "outcome", "body": outcome})


def decode_outcome(data: bytes) -> Outcome:
    """Inverse of encode_outcome. Raises InvalidEnvelope."""
    outcome: Outcome = _decode_body(data, "outcome", limit_bytes=4 * MAX_ENVELOPE_BYTES)
    return outcome


def encode_record(outcome: Outcome) -> bytes:
    """The manifest object: the outcome without inline data."""
    return _encoder.encode({"v": VERSION, "kind": "outcome", "body": without_data(outcome)})


def encode_group(ending: GroupEnding) -> bytes:
    """The event of a completed group, and the object that records it."""
    return _encoder.encode({"v": VERSION, "kind": "group", "body": ending})


def decode_group(data: bytes) -> GroupEnding:
    """Inverse of encode_group. Raises InvalidEnvelope."""
    ending: GroupEnding = _decode_body(data, "group")
    return ending


def encode_control(call: ControlCall) -> bytes:
    return _encoder.encode({"v": VERSION, "kind": "control", "body": call})


def decode_control(data: bytes) -> ControlCall:
    """Raises InvalidEnvelope."""
    call: ControlCall = _decode_body(data, "control")
    return call


def encode_status(status: JobStatus) -> bytes:
    return _encoder.encode({"v": VERSION, "kind": "status", "body": status})


def decode_reply(data: bytes) -> Outcome | JobStatus:
    """What can arrive on a reply queue. Raises InvalidEnvelope."""
    kind = _check_head(data, known=("outcome", "status"), limit_bytes=4 * MAX_ENVELOPE_BYTES)
    reply: Outcome | JobStatus = _decode_body(data, kind, limit_bytes=4 * MAX_ENVELOPE_BYTES)
    return reply


def _decode_body(data: bytes, kind: str, limit_bytes: int = MAX_ENVELOPE_BYTES) -> Any:
    _check_head(data, known=(kind,), limit_bytes=limit_bytes)
    try:
        return _bodies[kind].decode(_body_envelope.decode(data).body)
    except (msgspec.DecodeError, InvalidJob, RecursionError) as error:
        raise InvalidEnvelope("field", f"{kind}: {error}") from error


def _check_head(data: bytes, known: tuple[str, ...], limit_bytes: int = MAX_ENVELOPE_BYTES) -> str:
    if len(data) > limit_bytes:
        raise InvalidEnvelope("oversized", f"message of {len(data)} bytes; at most {limit_bytes}")
    try:
        head = _head.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEnvelope("malformed", f"no Sandpool envelope: {error}") from error
    if head.v != VERSION:
        raise InvalidEnvelope("version", f"envelope version {head.v}; this release speaks version {VERSION}")
    if head.kind not in known:
        raise InvalidEnvelope("kind", f"kind {head.kind[:80]!r}; known here: {', '.join(known)}")
    return head.kind
