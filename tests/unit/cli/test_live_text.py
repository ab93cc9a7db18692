"""What a program writes is printed once, however it was cut, and commands no terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.code_answer import LiveAnswer
from cluster.cli.live_text import LiveText


class Target(io.TextIOWrapper):
    def __init__(self, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


@given(content=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5), seen=st.integers(0, 60))
def test_every_byte_is_printed_once_however_it_was_cut(content: bytes, cuts: list[int], seen: int) -> None:
    for raw in (True, False):
        target = Target()
        live = LiveText(target, raw=raw)
        at = 0
        for cut in sorted({*(min(cut, seen, len(content)) for cut in cuts), min(seen, len(content))}):
            live.write(content[at:cut])
            at = cut
        if raw:
            live.finish_bytes(content)
            assert target.written == content
        else:
            whole = content.decode("utf-8", "backslashreplace")
            if content[:at].decode("utf-8", "ignore") == content[:at].decode("utf-8", "backslashreplace"):
                live.finish(whole)
                assert target.written.decode() == whole


def test_a_terminal_is_shown_escapes_instead_of_commanded() -> None:
    target = Target(terminal=True)
    live = LiveText(target, raw=True)
    live.write(b"a\x1b[2J\nb")
    live.write("ü"[:1].encode()[:1])
    live.finish_bytes("a\x1b[2J\nbü".encode())
    assert target.written == "a\\x1b[2J\nbü\n".encode()


def test_what_was_cut_in_the_outcome_is_not_printed_again() -> None:
    target = Target()
    live = LiveText(target)
    live.write(b"0123456789")
    live.finish("01234")
    assert target.written == b"0123456789"


def test_an_attempt_that_begins_anew_is_printed_from_its_beginning(capfd: pytest.CaptureFixture[str]) -> None:
    live = LiveAnswer()
    live.show(1, b"first", b"")
    live.show(2, b"st", b"")
    assert live.offsets() == (0, 0)
    live.show(2, b"sec", b"")
    live.finish(2, "second\n", "")
    out, err = capfd.readouterr()
    assert (out, err) == ("firstsecond\n", "attempt 2 begins anew\n")
