"""Our terminal, handed to a command in a sandbox: what is typed, and the window's size, by a thread of its own.

Used by `sandpool sandbox exec --tty`. While it lasts the terminal is raw: Ctrl-C and all other keys are the command's.
However it ends, the terminal is as it was before; only SIGKILL leaves it raw (`reset` helps).
"""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Callable
from types import FrameType
from typing import Self

LOOK_S = 0.1
"""Between two looks at the window's size, and at whether to stop."""
PIECE_BYTES = 64 * 1024
ENDINGS = (signal.SIGTERM, signal.SIGHUP)
Hand = Callable[[bytes, int, int], bool]


class Keyboard:
    """As a context around what runs; `begin` when it takes input."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of a terminal."""
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._handlers: dict[int, object] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        found = os.get_terminal_size(self._descriptor)
        return max(1, found.lines), max(1, found.columns)

    def __enter__(self) -> Self:
        for number in ENDINGS:
            self._handlers[number] = signal.signal(number, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as `signal.signal` gave it
        if self._thread is not None:
            self._thread.join(10 * LOOK_S)

    def begin(self, hand: Hand) -> None:
        """From now on every key goes to `hand`, one piece after the other, until it says that no more is taken."""
        tty.setraw(self._descriptor)
        self._thread = threading.Thread(target=self._pass_on, args=(hand, self.size), name="keyboard", daemon=True)
        self._thread.start()

    def _pass_on(self, hand: Hand, size: tuple[int, int]) -> None:
        takes = True
        while takes and not self._stop.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], LOOK_S)
            data = os.read(self._descriptor, PIECE_BYTES) if ready and not self._stop.is_set() else b""
            if ready and not data:
                return  # the terminal is gone
            now = self.size
            if data or now != size:
                takes = hand(data, *(now if now != size else (0, 0)))
                size = now


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
