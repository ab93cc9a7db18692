"""The envelopes: byte for byte what version 1 is, strict about everything else. `sandpool.wire`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.errors import InvalidEnvelope
from sandpool.job import CommandJob, Gpu, PythonJob, SqlJob
from sandpool.outcome import Ending, Outcome
from sandpool.wire import (
    MAX_ENVELOPE_BYTES,
    decode_control,
    decode_job,
    decode_outcome,
    decode_reply,
    encode_job,
    encode_outcome,
    encode_record,
    job_routing_key,
)
from tests.unit.sdk.samples import CODE_OUTCOME, FULL_JOB, FULL_OUTCOME, GOLDEN, MINIMAL_OUTCOME

FOLDER = Path(__file__).parents[1] / "golden"
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "job": decode_job,
    "outcome": decode_outcome,
    "record": decode_outcome,
    "control": decode_control,
    "status": decode_reply,
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_is_written_byte_for_byte_as_in_its_golden_file(name: str) -> None:
    assert GOLDEN[name][0] == (FOLDER / f"v1-{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("v1-*.json")), ids=lambda path: path.stem)
def test_every_golden_file_is_still_read(path: Path) -> None:
    name = path.stem.removeprefix("v1-")
    value = DECODERS[name.split("-")[0]](path.read_bytes())
    if (expected := GOLDEN[name][1]) is not None:
        assert value == expected


@given(
    sql=TEXT,
    params=st.lists(PLAIN | st.lists(PLAIN, max_size=3), max_size=5),
    labels=st.dictionaries(st.from_regex(r"\A[a-z0-9]{1,9}\Z"), TEXT, max_size=3),
)
def test_every_job_survives_the_wire(sql: str, params: list[Any], labels: dict[str, str]) -> None:
    job = SqlJob(database="d", sql=sql, params=tuple(params), labels=labels)
    assert decode_job(encode_job(job)) == job


@given(inline=st.binary(max_size=2000), wait_s=st.floats(0, 1e6), ending=st.sampled_from(Ending))
def test_every_outcome_survives_the_wire_and_its_record_has_no_data(
    inline: bytes, wait_s: float, ending: Ending
) -> None:
    usage = msgspec.structs.replace(FULL_OUTCOME.usage, wait_s=wait_s)
    outcome = msgspec.structs.replace(FULL_OUTCOME, inline=inline, usage=usage, ending=ending)
    assert decode_reply(encode_outcome(outcome)) == outcome
    assert decode_outcome(encode_record(outcome)) == msgspec.structs.replace(outcome, inline=b"")


def test_the_record_of_code_names_its_displays_and_holds_no_data() -> None:
    displays = decode_outcome(encode_record(CODE_OUTCOME)).manifest.displays
    assert [display.key for display in displays] == [display.key for display in CODE_OUTCOME.manifest.displays]
    assert CODE_OUTCOME.manifest.displays[0].data
    assert not any(display.data for display in displays)


@given(
    st.binary(max_size=200)
    | st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_bytes_that_are_no_envelope_have_one_clear_error(data: bytes) -> None:
    for decode in DECODERS.values():
        with pytest.raises(InvalidEnvelope) as raised:
            decode(data)
        assert raised.value.code in {"oversized", "malformed", "version", "kind", "field"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (b'{"v": 1, "kind": "sql"', "malformed"),
        (b'{"v": "1", "kind": "sql", "job": {}}', "malformed"),
        (b'{"v": 2, "kind": "sql", "job": {}}', "version"),
        (b'{"v": 0, "kind": "sql", "job": {}}', "version"),
        (b'{"v": 1, "kind": "notebook", "job": {}}', "kind"),
        (b'{"v": 1, "kind": "python", "job": {}}', "field"),
        (b'{"v": 1, "kind": "python", "job": {"code": "1", "file": "results:a/b.py"}}', "field"),
        (b'{"v": 1, "kind": "python", "job": {"code": "1", "inputs": {"../x": "results:a/b"}}}', "field"),
        (b'{"v": 1, "kind": "command", "job": {"argv": []}}', "field"),
        (b'{"v": 1, "kind": "outcome", "body": {}}', "kind"),
        (b'{"v": 1, "kind": "sql", "body": {}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {}, "extra": 1}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {"database": "d"}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {"database": "d", "sql": "select 1", "tenant": "x"}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {"database": "../d", "sql": "select 1"}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {"database": "d", "sql": 5}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": {"database": "d", "sql": "select 1", "deadline": "tomorrow"}}', "field"),
        (b'{"v": 1, "kind": "sql", "job": ' + b"[" * 100_000, "malformed"),
        (b"x" * (MAX_ENVELOPE_BYTES + 1), "oversized"),
    ],
    ids=range(22),
)
def test_a_wrong_job_envelope_is_refused_with_the_reason(data: bytes, code: str) -> None:
    with pytest.raises(InvalidEnvelope) as raised:
        decode_job(data)
    assert raised.value.code == code


def test_a_job_too_large_for_its_envelope_is_not_encoded() -> None:
    with pytest.raises(InvalidEnvelope, match="fewer parameters") as raised:
        encode_job(SqlJob(database="d", sql="select 1", params=("x" * MAX_ENVELOPE_BYTES,)))
    assert raised.value.code == "oversized"
    with pytest.raises(InvalidEnvelope, match="file='VOLUME:KEY'"):
        encode_job(PythonJob(code="\0" * 500_000))


def test_an_outcome_with_the_largest_inline_result_is_read() -> None:
    outcome = msgspec.structs.replace(MINIMAL_OUTCOME, inline=bytes(64 * 1024))
    reply = decode_reply(encode_outcome(outcome))
    assert isinstance(reply, Outcome)
    assert len(reply.inline) == 64 * 1024


def test_moments_keep_their_zone() -> None:
    job = decode_job(encode_job(FULL_JOB))
    assert job.deadline is not None
    assert job.deadline.astimezone(UTC) == datetime(2026, 11, 23, 17, 0, 0, 250_000, tzinfo=UTC)


def test_a_job_travels_by_what_it_needs_and_how_urgent_it_is() -> None:
    assert job_routing_key(FULL_JOB) == "sql.interactive"
    assert job_routing_key(CommandJob(argv=("true",))) == "cpu.batch"
    assert job_routing_key(PythonJob(code="1", gpu=Gpu(), priority="interactive")) == "gpu.interactive"
