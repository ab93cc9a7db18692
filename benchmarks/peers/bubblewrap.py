"""Peer of the sandbox benchmarks: bubblewrap and the image's own Python, the floor of what a fresh process costs.

Namespaces of the host's own kernel around a native process: no gVisor, no cgroup, no limits. It shows what isolation by
a kernel of one's own costs, and is no substitute for it. Blocking.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

DEADLINE_S = 60.0


def missing() -> bool:
    return shutil.which("bwrap") is None


def command(rootfs: Path, home: str, code: str, env: Mapping[str, str]) -> list[str]:
    variables = [part for name, value in env.items() for part in ("--setenv", name, value)]
    return [
        *("bwrap", "--ro-bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *("--tmpfs", home, "--unshare-all", "--die-with-parent", "--clearenv"),
        *("--setenv", "HOME", home, "--setenv", "PATH", "/usr/bin:/bin", *variables),
        *("/usr/bin/python3", "-I", "-c", code),
    ]


def run(argv: list[str]) -> float:
    """Seconds from the call to the end of a program that prints 2."""
    started = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False)
    took_s = time.perf_counter() - started
    if done.stdout.strip() != b"2":
        raise RuntimeError(f"bwrap ended with {done.returncode}: {done.stderr[-300:]!r}")
    return took_s
