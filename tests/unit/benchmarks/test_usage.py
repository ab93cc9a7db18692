"""CPU and memory of process trees are those that the processes really used."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.usage import PeakMemory, children, cpu_s, own_cpu_s, resident_bytes, tree

BURN = (
    "import time; end = time.process_time() + 0.15\nwhile time.process_time() < end: pass\n"
    "print('burnt', flush=True)\ninput()"
)
GRANDCHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); input()"
MIB = 2**20


def burning(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"burnt\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_the_cpu_time_of_a_grandchild_counts_for_the_tree() -> None:
    process = burning(GRANDCHILD)
    try:
        pids = tree([process.pid])
        assert len(pids) == 2
        assert cpu_s(pids) >= 0.14
    finally:
        for pid in tree([process.pid])[1:]:
            os.kill(pid, 9)
        end(process)


def test_the_cpu_time_of_a_process_that_ended_stays_with_the_tree() -> None:
    process = burning(GRANDCHILD)
    try:
        before = cpu_s(tree([process.pid]))
        os.kill(tree([process.pid])[1], 9)
        deadline = time.monotonic() + 10
        while len(tree([process.pid])) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cpu_s(tree([process.pid])) >= before
    finally:
        end(process)


def test_a_child_is_found_while_it_runs_and_not_after() -> None:
    process = burning("print('burnt', flush=True); input()")
    assert process.pid in children(os.getpid())
    end(process)
    assert process.pid not in children(os.getpid())
    assert cpu_s([process.pid]) == 0
    assert resident_bytes([process.pid]) == 0


def test_our_own_cpu_time_grows_with_our_work() -> None:
    before = own_cpu_s()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    # Whole hundredths, the kernel's own unit: as floats, 7.02 - 6.98 is a hair below 0.04.
    assert round(100 * (own_cpu_s() - before)) >= 4


def test_peak_memory_sees_what_was_freed_before_the_end() -> None:
    with PeakMemory(os.getpid(), every_s=0.005) as memory:
        block = bytearray(64 * MIB)
        block[::4096] = b"x" * len(block[::4096])
        deadline = time.monotonic() + 10  # until it was looked at, which a busy machine may put off
        while memory.size_bytes - memory.before_bytes < 50 * MIB and time.monotonic() < deadline:
            time.sleep(0.005)
        del block
    assert memory.size_bytes - memory.before_bytes >= 50 * MIB
