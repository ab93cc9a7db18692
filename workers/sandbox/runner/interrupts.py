"""KeyboardInterrupt in the thread that runs code: there, and nowhere else in the runner.

`service` arms it around the user's code; requests come from the receiving thread. Code that takes the signal for
itself or hangs in C is not stopped by it: the host ends such a sandbox.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    def __init__(self) -> None:
        """In the main thread, which is the one that runs code."""
        self._main = threading.main_thread().ident or 0
        signal.signal(signal.SIGINT, self._on_signal)
        self._running = 0
        self._early = 0
        self._held = False
        self._pending = False

    def request(self, request: int) -> None:
        """Interrupt this request: now, or as soon as it starts."""
        self._early = request
        if request and self._running == request:
            signal.pthread_kill(self._main, signal.SIGINT)

    @contextlib.contextmanager
    def armed(self, request: int) -> Iterator[None]:
        signal.signal(signal.SIGINT, self._on_signal)  # the code before may have taken it
        try:
            self._running = request
            if self._early == request:
                raise KeyboardInterrupt
            yield
        finally:
            self._running = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Not while a frame is being sent: half a frame would end the session."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._running and self._held:
            self._pending = True
        elif self._running:
            raise KeyboardInterrupt
