"""A worker whose node is gone, or that nobody asks for anything any more, ends itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workers.lifeline import EXIT_CODE, Lifeline, why_end

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=sys.stdout)
child.wait()
"""
CHILD = """
import os, sys, time
from workers.lifeline import Lifeline
Lifeline(look_s=0.02)
print(os.getpid(), flush=True)
time.sleep(60)  # what an event loop that hangs looks like
"""


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 100), st.none() | st.floats(1, 50))
def test_a_process_ends_for_a_lost_parent_or_a_long_silence_and_nothing_else(
    parent: int, now: int, silent_s: float, longest_s: float | None
) -> None:
    reason = why_end(parent, now, silent_s, longest_s)
    assert bool(reason) == (parent != now or (longest_s is not None and silent_s > longest_s))


def test_a_worker_whose_raylet_was_killed_ends_though_nobody_reaps_the_raylet() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, cwd=Path.cwd()) as raylet:
        assert raylet.stdout is not None
        worker = int(raylet.stdout.readline())
        os.kill(raylet.pid, signal.SIGKILL)
        # Its output ends with the worker, the last to hold it; until then the killed parent is a zombie of ours.
        assert b"raylet of this node is gone" in raylet.stdout.read()
        # A process closes its files a moment before it is no more.
        until_s = time.monotonic() + 10.0
        while _runs(worker) and time.monotonic() < until_s:
            time.sleep(0.01)
        assert not _runs(worker)


def _silent(open_to: Callable[[], bool]) -> list[int]:
    """The exit codes of a lifeline that nobody asks anything, and that may be silent for 50 ms."""
    codes: list[int] = []
    ended = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    lifeline = Lifeline(longest_s=0.05, open_to=open_to, end=end, look_s=0.01)
    ended.wait(0.3)
    lifeline.let_go()
    return codes


def test_a_pool_that_no_scheduler_asks_ends() -> None:
    assert _silent(lambda: False) == [EXIT_CODE]


def test_a_pool_with_a_scheduler_connected_stays() -> None:
    assert _silent(lambda: True) == []


def _runs(pid: int) -> bool:
    stat = Path("/proc", str(pid), "stat")
    try:
        return stat.read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
