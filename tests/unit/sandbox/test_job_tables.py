"""What code says of the table that it left: anything but the truth is an error of the job, never of the host."""

from __future__ import annotations

import pytest

from workers.sandbox.jobs.errors import ResultInvalid
from workers.sandbox.jobs.table import read_description


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"columns":[{"name":"\xff","arrow_type":""}],"rows":0,"partial":false}',
        b'{"columns":[{"name":"\\ud800","arrow_type":""}],"rows":0,"partial":false}',
        b'{"columns":[],"rows":-1,"partial":false}',
        b'{"columns":[],"rows":1e400,"partial":false}',
        b'{"columns":[],"rows":0,"partial":false,"more":1}',
    ],
    ids=["empty", "nothing", "deep", "no UTF-8", "lone surrogate", "negative", "infinite", "unknown field"],
)
def test_a_description_that_is_none_is_an_invalid_result(content: bytes) -> None:
    with pytest.raises(ResultInvalid):
        read_description(content)


def test_a_description_is_read_as_declared() -> None:
    said = read_description(b'{"columns":[{"name":"a","arrow_type":"int64"}],"rows":3,"partial":false}')
    assert (said.rows, [(column.name, column.arrow_type) for column in said.columns]) == (3, [("a", "int64")])
