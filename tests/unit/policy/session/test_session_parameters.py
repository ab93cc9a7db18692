"""Declared types of parameters: what could print or tell a name is erased, everything else stays."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sql.policy.session import plain_parameter_types


def listed(*oids: int) -> bytes:
    return struct.pack(f"!H{len(oids)}I", len(oids), *oids)


@pytest.mark.parametrize("oid", [24, 2205, 2206, 4089, 4096, 2210, 1033, 16384, 4_000_000_000])
def test_a_type_that_could_tell_names_is_left_to_the_server(oid: int) -> None:
    assert plain_parameter_types(listed(23, oid, 25)) == listed(23, 0, 25)


def test_ordinary_types_stay() -> None:
    for types in (listed(), listed(0), listed(20, 23, 25, 1043, 1114, 2950, 3802, 1009, 26, 705)):
        assert plain_parameter_types(types) == types


@given(st.binary(max_size=64))
def test_bytes_that_are_no_list_come_back_as_they_are(types: bytes) -> None:
    plain = plain_parameter_types(types)
    assert len(plain) == len(types)
    if len(types) < 2 or len(types) != 2 + 4 * int.from_bytes(types[:2], "big"):
        assert plain == types
