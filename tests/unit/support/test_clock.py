"""The shifted clock does what tests rely on: only the wall clock jumps, and only for who preloads it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.clock import ShiftedClock

PROGRAM = """
import datetime, sys, threading, time
for _ in sys.stdin:
    began = time.monotonic()
    heard = threading.Event().wait(0.05)
    date = int(datetime.datetime.now(datetime.UTC).timestamp())
    print(int(time.time()), date, time.monotonic() - began < 5, flush=True)
"""


def test_the_wall_clock_jumps_and_comes_back_while_waits_stay_as_long_as_they_are(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **clock.environment()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for shift_s in (0, 86_400, -3600, 0):
            clock.shift(shift_s)
            process.stdin.write("now\n")
            wall, date, short = process.stdout.readline().split()
            assert abs(int(wall) - time.time() - shift_s) < 60
            assert abs(int(date) - time.time() - shift_s) < 60
            assert short == "True"
        process.stdin.close()
