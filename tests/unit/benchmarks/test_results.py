"""No peer wins by answering something else: the checksum notices, whatever type a peer gives a number."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.peers.parquet_file import write_result
from benchmarks.results import Checksum, DifferentResults, read_checksum, require_equal

ROWS = [("UA", 3, Decimal("1.50")), ("AA", 2, None), ("DL", 1, Decimal("-4.25"))]


def test_what_a_peer_wrote_has_the_checksum_of_what_it_read(tmp_path: Path) -> None:
    for number in range(2):
        assert write_result(ROWS, str(tmp_path), number) == 3
    expected = Checksum.of([[(n, delay) for _, n, delay in ROWS]] * 2)
    assert read_checksum(tmp_path.glob("*.parquet")) == expected
    assert expected == Checksum(results=2, rows=6, flights=12, delay=-5.5)


def test_an_empty_result_still_counts_as_a_result(tmp_path: Path) -> None:
    write_result([], str(tmp_path), 0)
    assert read_checksum(tmp_path.glob("*.parquet")) == Checksum(1, 0, 0, 0.0)


def test_nothing_half_written_lies_in_the_folder_of_results(tmp_path: Path) -> None:
    write_result(ROWS, str(tmp_path), 7)
    assert [path.name for path in tmp_path.iterdir()] == ["000007.parquet"]


def test_peers_that_differ_in_one_row_are_not_compared() -> None:
    one, other = Checksum.of([[(1, 2.0)]]), Checksum.of([[(2, 2.0)]])
    assert require_equal({"a": one, "b": one}) == one
    with pytest.raises(DifferentResults, match=r"a: .*b: "):
        require_equal({"a": one, "b": other})
