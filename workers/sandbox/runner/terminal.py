"""A pseudo-terminal for one command: made, sized, read, written, closed.

Used by `commands`, on the command's own loop. The master's end is ours; the command gets the other one as stdin, stdout
and stderr and as its controlling terminal, so that what a person types can interrupt it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable, Iterator

END_OF_INPUT = b"\x04"


class Terminal:
    def __init__(self, rows: int, columns: int) -> None:
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self.resize(rows, columns)

    @contextlib.contextmanager
    def inside(self) -> Iterator[int]:
        """The command's end, until it is started; without that the end of the command would never be seen."""
        try:
            yield self._slave
        except BaseException:
            self.close()
            raise
        finally:
            os.close(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the command by SIGWINCH."""
        with contextlib.suppress(OSError):  # closed, or everybody has left it
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def read(self, size: int) -> bytes:
        """What was written to it; nothing once nobody has it open any more."""
        while True:
            try:
                return os.read(self._master, size)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await _ready(self._master, loop.add_reader, loop.remove_reader)
            except OSError:  # EIO: the last one who had it open is gone
                return b""

    async def write(self, content: bytes, last: bool) -> bool:
        """As if it were typed; whether anybody has it open. `last`: and then the end of the input."""
        content += END_OF_INPUT if last else b""
        while content:
            try:
                content = content[os.write(self._master, content) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await _ready(self._master, loop.add_writer, loop.remove_writer)
            except OSError:
                return False
        return True

    def close(self) -> None:
        master, self._master = self._master, -1
        if master >= 0:
            os.close(master)


async def _ready(descriptor: int, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
    """Until the event loop says that the descriptor can be used."""
    event = asyncio.Event()
    add(descriptor, event.set)
    try:
        await event.wait()
    finally:
        remove(descriptor)


def take_terminal() -> None:
    """In the child, before it becomes the command: the terminal on its stdin is the one that controls it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
