"""Prints what code writes while it runs, and at its end what is missing: every character once.

Used by `run` (text, as outcomes hold it) and `sandbox exec|code` (bytes, as they are). Into a pipe goes what was
written; on a terminal every character that would command it is shown as an escape.
"""

from __future__ import annotations

import codecs
from typing import TextIO

from cluster.cli.safe_text import visible


class LiveText:
    """One stream of one attempt."""

    def __init__(self, target: TextIO, *, raw: bool = False) -> None:
        """`raw`: bytes go into a pipe as they are; otherwise as the text that an outcome makes of them."""
        self._target = target
        self._raw = raw and not target.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._shown: list[str] = []
        self._in_line = False
        self.taken_bytes = 0

    def write(self, piece: bytes) -> None:
        """The next piece."""
        self.taken_bytes += len(piece)
        if self._raw:
            self._target.buffer.write(piece)
            self._target.flush()
        else:
            self._print(self._decoder.decode(piece))

    def finish(self, whole: str) -> None:
        """What is missing of the whole text. One that does not begin with what was printed is printed whole."""
        self._print(self._decoder.decode(b"", final=True))
        shown = "".join(self._shown)
        if not shown.startswith(whole):
            self._print(whole[len(shown) if whole.startswith(shown) else 0 :])
        self.end_line()

    def finish_bytes(self, whole: bytes) -> None:
        """What is missing of all that was written."""
        self.write(whole[self.taken_bytes :])
        if not self._raw:
            self._print(self._decoder.decode(b"", final=True))
            self.end_line()

    def end_line(self) -> None:
        """On a terminal: what comes next begins a line of its own."""
        if self._in_line and self._target.isatty():
            self._target.write("\n")
            self._target.flush()
        self._in_line = False

    def _print(self, text: str) -> None:
        if not text:
            return
        self._shown.append(text)
        self._in_line = not text.endswith("\n")
        if self._target.isatty():
            text = "\n".join(map(visible, text.split("\n")))
        self._target.write(text.encode("utf-8", "backslashreplace").decode())
        self._target.flush()
