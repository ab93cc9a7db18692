"""Disarming schemas: same length, harmless ones untouched, and no way of writing a footer around it."""

from __future__ import annotations

import base64
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.inert import disarm_footer, disarm_parquet, disarm_stream

KEY, SCHEMA = b"ARROW:extension:name", b"ARROW:schema"
HARMLESS_SCHEMA = pa.schema([("u", pa.uuid()), ("j", pa.json_()), ("n", pa.int8())])


def _message(name: bytes) -> bytes:
    field = pa.field("x", pa.int32(), metadata={KEY: name, b"ARROW:extension:metadata": b"boom"})
    return pa.schema([field]).serialize().to_pybytes()


def _pair(value: bytes, *, before: bytes = b"\x18\x0c", between: bytes = b"\x18", after: bytes = b"\x00") -> bytes:
    """A Thrift key-value pair as parquet writes it, or spoilt."""
    return b"\x19\x1c" + before + SCHEMA + between + _varint(len(value)) + value + after + b"\x00"


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


EVIL = base64.b64encode(_message(b"evil.type"))
CLEAN = base64.b64encode(pa.schema([("x", pa.int32())]).serialize().to_pybytes())


def test_a_harmless_footer_is_not_touched() -> None:
    footer = _pair(base64.b64encode(HARMLESS_SCHEMA.serialize().to_pybytes()))
    assert disarm_footer(footer) == footer
    assert disarm_footer(b"no schema here") == b"no schema here"


def test_a_dangerous_name_is_altered_inside_the_stored_schema() -> None:
    safe = disarm_footer(_pair(EVIL))
    assert len(safe) == len(_pair(EVIL))
    assert SCHEMA in safe
    start = safe.index(SCHEMA) + len(SCHEMA) + 1 + len(_varint(len(EVIL)))
    assert KEY not in base64.b64decode(safe[start : start + len(EVIL)])


@pytest.mark.parametrize(
    "footer",
    [
        _pair(CLEAN) + _pair(EVIL),
        _pair(EVIL) + _pair(CLEAN),
        # The value a second time in the same struct: Thrift's last one wins.
        _pair(CLEAN, after=b"\x08\x04" + _varint(len(EVIL)) + EVIL + b"\x00"),
        # The key by its long form, the value before it.
        b"\x28" + _varint(len(EVIL)) + EVIL + b"\x08\x02\x0c" + SCHEMA + b"\x00",
        _pair(EVIL, between=b"\x08\x04"),
        _pair(EVIL + b"\n"),
        _pair(EVIL[:-1] + b"\n="),
        _pair(b"!" + EVIL),
        _pair(base64.b64encode(_message(b"evil.type")[:-4])),
        b"\x18\x0c" + SCHEMA,
        b"\x18\x0c" + SCHEMA + b"\x18\xff\xff\xff\xff\xff\xff",
    ],
)
def test_a_footer_written_to_fool_us_loses_its_stored_schema(footer: bytes) -> None:
    safe = disarm_footer(footer)
    assert len(safe) == len(footer)
    assert SCHEMA not in safe


@given(
    st.lists(
        st.sampled_from(
            [SCHEMA, EVIL, CLEAN, b"\x18", b"\x00", b"\x0c", b"\x08\x04", _varint(len(EVIL)), _pair(EVIL), _pair(CLEAN)]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_no_dangerous_schema_is_left_readable_whatever_surrounds_it(footer: bytes) -> None:
    safe = disarm_footer(footer)
    assert len(safe) == len(footer)
    if SCHEMA in safe:
        assert safe.count(SCHEMA) == 1
        rest = safe[safe.index(SCHEMA) + len(SCHEMA) :]
        # What follows is one complete value, harmless, and the end of its struct.
        assert rest.startswith(b"\x18" + _varint(len(CLEAN)) + CLEAN + b"\x00") or EVIL not in rest[: 4 + len(EVIL)]


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_stream_or_refused(data: bytes) -> None:
    try:
        assert len(disarm_stream(data)) == len(data)
    except ValueError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_either_parquet_or_refused(data: bytes) -> None:
    try:
        with disarm_parquet(io.BytesIO(data), len(data)) as file:
            assert len(file.read()) == len(data)
    except ValueError:
        return


def test_a_real_file_without_extensions_is_read_in_place() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"u": pa.array([b"0" * 16], pa.uuid())}), sink)
    with disarm_parquet(sink, len(sink.getvalue())) as file:
        assert file is sink
        assert file.tell() == 0
