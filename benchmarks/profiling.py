"""Where our own processes spend their CPU time: py-spy on the scheduler and the pools while a benchmark runs.

Asked for by `--profile`. Needs the program py-spy and the right to trace our own children. Its sampling costs the
traced process little (it is stopped for each sample), but no figure of a profiled run is to be quoted.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.usage import cpu_s, tree

RATE_PER_S = 200
STOP_TIMEOUT_S = 30.0
TOP = 25
ACTORS = ("Conductor", "PoolActor")
"""Parts of the process titles that Ray gives its actors' processes."""


def find_profiler() -> str | None:
    return shutil.which("py-spy")


@contextmanager
def profiled(root: int, folder: Path, lines: list[str]) -> Iterator[None]:
    """Profile every actor of ours below `root` while the block runs; what was found is appended to `lines`."""
    before = cpu_by_process(root)
    profiler = find_profiler()
    if profiler is None:
        yield
        lines += [*cost_of_processes(before, cpu_by_process(root)), "functions: py-spy is not installed"]
        return
    traced: list[tuple[str, Path, subprocess.Popen[bytes]]] = []
    for pid in tree([root]):
        title = _title(pid)
        if any(actor in title for actor in ACTORS):
            path = folder / f"profile-{pid}.txt"
            command = [
                profiler,
                "record",
                "--format",
                "raw",
                "--rate",
                str(RATE_PER_S),
                "--nonblocking",
                "--output",
                str(path),
            ]
            command += ["--pid", str(pid), "--duration", "600"]
            traced.append(
                (title, path, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            )
    try:
        yield
    finally:
        lines += cost_of_processes(before, cpu_by_process(root))
        for title, path, process in traced:
            process.send_signal(signal.SIGINT)  # py-spy writes what it has
            process.wait(STOP_TIMEOUT_S)
            if path.exists():
                lines += [f"{title}:", *hot_spots(path.read_text("utf-8").splitlines())]


def cpu_by_process(root: int) -> dict[tuple[int, str], float]:
    """CPU seconds so far of every process below `root`, children not counted, by (pid, title)."""
    return {(pid, _title(pid)): cpu_s([pid], children_too=False) for pid in tree([root])}


def cost_of_processes(before: dict[tuple[int, str], float], after: dict[tuple[int, str], float]) -> list[str]:
    """One line for every process that did something, the dearest first."""
    spent = Counter({who: seconds - before.get(who, 0.0) for who, seconds in after.items()})
    return [f"{seconds:6.2f} CPU s  {title[:90]}" for (_, title), seconds in spent.most_common() if seconds >= 0.01]


def hot_spots(stacks: Sequence[str], top: int = TOP) -> list[str]:
    """The functions with most samples in collapsed stacks (`a;b;c 12`): alone, and with all that they called."""
    alone: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        alone[frames[-1]] += int(count)
        inclusive.update(dict.fromkeys(frames, int(count)))
        total += int(count)
    if not total:
        return ["no samples"]
    found = [f"{total} samples; alone:"]
    found += [f"{100 * count / total:5.1f} %  {frame}" for frame, count in alone.most_common(top)]
    found.append("with all that they called:")
    found += [f"{100 * count / total:5.1f} %  {frame}" for frame, count in inclusive.most_common(2 * top)]
    return found


def _title(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
