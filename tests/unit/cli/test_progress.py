"""What a batch says while it runs, and where files go."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from cluster.cli.destination import open_destination
from cluster.cli.progress import LiveBar, PlainLines, Tally
from sandpool.outcome import Ending


def tally(**counts: int) -> Tally:
    return Tally(total=2000, ended=Counter({Ending(name): count for name, count in counts.items()}))


def test_a_plain_line_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainLines(interval_s=0) as display:
        display.update(tally(Denied=3, Succeeded=1200))
    line = capsys.readouterr().err
    assert line.startswith("1,203 of 2,000 · 1,200 Succeeded, 3 Denied · ")


def test_plain_lines_are_few_and_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainLines(interval_s=0) as display:
        for _ in range(5):
            display.update(tally(Succeeded=1))
    assert len(capsys.readouterr().err.splitlines()) == 1
    with PlainLines(interval_s=60) as display:
        for count in range(5):
            display.update(tally(Succeeded=count))
    assert capsys.readouterr().err == ""


def test_a_note_under_the_bar_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveBar() as display:
        display.update(tally(Succeeded=1))
        display.note("line 7: expected [red]object[/red]")
        display.update(tally(Succeeded=2000))
    assert "line 7: expected [red]object[/red]" in capsys.readouterr().err


def test_all_is_well_only_when_every_line_succeeded() -> None:
    assert tally(Succeeded=5).succeeded
    assert not tally(Succeeded=5, Lost=1).succeeded
    one_malformed = tally(Succeeded=5)
    one_malformed.malformed = 1
    assert not one_malformed.succeeded
    earlier = tally(Succeeded=5)
    earlier.before[Ending.Denied] = 1
    assert not earlier.succeeded


def test_a_file_appears_whole_and_with_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with open_destination(path) as stream:
        stream.write(b"rows")
        assert not path.exists()
    assert path.read_bytes() == b"rows"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with pytest.raises(ZeroDivisionError), open_destination(path) as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]
    assert path.read_bytes() == b"old"
    with open_destination(path) as stream:
        stream.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_device_is_written_to_and_not_replaced() -> None:
    with open_destination(Path("/dev/null")) as stream:
        stream.write(b"rows")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
