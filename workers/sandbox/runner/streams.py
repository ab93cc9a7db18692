"""stdout and stderr of the whole process, taken at the file descriptors: C extensions and children are caught too.

One thread reads both pipes and sends what it reads, under the id of the code that runs (0: none does). It reads only
while there is a connection, and a host that does not read stops it: then the writers wait. Known limit: C code that
writes more than the pipe holds (1 MiB) without releasing the interpreter lock waits for itself; the host's time limit
ends that.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import io
import os
import selectors
import sys
import termios
import threading

from .link import Link

CHUNK_BYTES = 64 * 1024
PIPE_BYTES = 1024 * 1024
SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ
NAMES = {1: "stdout", 2: "stderr"}


class Streams:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._reading = threading.Lock()
        self._current = 0
        self._pipes: dict[int, tuple[int, int]] = {}
        self._writers: dict[int, io.TextIOWrapper] = {}
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        for number in NAMES:
            read_end, write_end = os.pipe()
            os.set_blocking(read_end, False)
            with contextlib.suppress(OSError):  # a smaller pipe works as well
                fcntl.fcntl(write_end, SET_PIPE_SIZE, PIPE_BYTES)
            self._pipes[number] = (read_end, write_end)
        self._attach()
        threading.Thread(target=self._pump, name="output", daemon=True).start()

    def begin(self, request: int) -> None:
        """From now on output belongs to this request. What earlier code did to stdout and stderr is undone."""
        self._drain()
        self._current = request
        self._attach()

    def finish(self) -> None:
        """Everything written so far is on its way to the host when this returns."""
        for stream in (sys.stdout, sys.stderr, *self._writers.values()):
            # The code may have closed it, or put anything in its place.
            with contextlib.suppress(BaseException):
                stream.flush()
        self._drain()
        self._current = 0

    def _attach(self) -> None:
        for number, (_, write_end) in self._pipes.items():
            os.dup2(write_end, number)
            writer = self._writers.get(number)
            # The same objects for as long as possible: loggers keep them.
            self._writers[number] = _writer(number) if writer is None or writer.closed else writer
        sys.stdout, sys.stderr = self._writers[1], self._writers[2]
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process

    def _drain(self) -> None:
        """What is in the pipes now; not what writers that never stop add meanwhile."""
        with self._reading:
            for number, (read_end, _) in self._pipes.items():
                waiting = array.array("i", [0])
                fcntl.ioctl(read_end, termios.FIONREAD, waiting)
                left = waiting[0]
                while left > 0:
                    left -= self._forward(number, min(left, CHUNK_BYTES)) or left

    def _pump(self) -> None:
        selector = selectors.DefaultSelector()
        for number, (read_end, _) in self._pipes.items():
            selector.register(read_end, selectors.EVENT_READ, number)
        while True:
            ready = selector.select()
            self._link.wait_until_up()
            with self._reading:
                for key, _ in ready:
                    self._forward(key.data, CHUNK_BYTES)

    def _forward(self, number: int, size: int) -> int:
        try:
            chunk = os.read(self._pipes[number][0], size)
        except BlockingIOError:
            return 0
        self._link.send("output", chunk, id=self._current, stream=NAMES[number])
        return len(chunk)


def _writer(number: int) -> io.TextIOWrapper:
    raw = open(number, "wb", buffering=8192, closefd=False)  # noqa: SIM115 - for the life of the process
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
