"""A wall clock that jumps, for chosen processes only: a library that they preload shifts it by what a file says.

    clock = ShiftedClock(folder)
    process = start(..., env={**os.environ, **clock.environment()})
    clock.shift(3600)      # its wall clock, and that of all below it, is an hour ahead from now on

The monotonic clock is left alone, as when a machine's time is set. Files keep the kernel's times, as those of a file
server do. What is linked statically, such as runsc, does not notice.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock_shim.c")


class ShiftedClock:
    """Compiled at once. Raises CalledProcessError where that fails."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "clock.so", folder / "shift"
        command = [
            "cc",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            str(self._library),
            str(SOURCE),
        ]
        subprocess.run([*command, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("=q", 0))

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT_FILE": str(self._file)}

    def shift(self, seconds: int) -> None:
        """By so much is the clock wrong from now on; negative: it is behind."""
        # In place: the processes have this file mapped.
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, struct.pack("=q", seconds), 0)
        finally:
            os.close(descriptor)
