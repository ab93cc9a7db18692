"""Peer of the sandbox benchmarks: runsc itself, called as its manual says, with nothing of ours around it.

The same images, limits, flags and snapshots as ours. A sandbox counts as there when the first byte of what runs in it
arrives at the host's socket. Blocking; the benchmarks call it in threads. What it starts, it ends: the process of the
benchmark has to be a subreaper (`subreaper`), as a host that calls runsc itself would.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox.bundle import Bind, Command, build_spec
from workers.sandbox.cgroup import Cgroups
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.starter import RUNNER, START

FLAGS = ("--platform=systrap", "--network=none", "--overlay2=none", "--host-uds=open", "--host-fifo=none")
DEADLINE_S = 60.0
PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Orphans of this process are its own: without that `runsc delete` waits for PID 1, for seconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Made:
    """A sandbox that runs, and the seconds until its first byte."""

    id: str
    folder: Path
    took_s: float


class BareRunsc:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._cgroups = Cgroups(name)
        self._cgroups.check()
        (folder / "state").mkdir(parents=True)

    def restore(self, snapshot: Path, image: Image, limits: Limits) -> Made:
        """`runsc restore` of a snapshot whose runner connects to the host, until its first byte."""
        sandbox_id, folder = self._bundle(image, limits, START, with_runner=True)
        listening = socket.socket(socket.AF_UNIX)
        with listening:
            listening.bind(str(folder / "sockets" / "runner.sock"))
            (folder / "sockets" / "runner.sock").chmod(0o666)
            listening.listen(1)
            listening.settimeout(DEADLINE_S)
            started = time.perf_counter()
            self._runsc("restore", "--detach", f"--image-path={snapshot}", f"--bundle={folder}", sandbox_id)
            connection, _ = listening.accept()
            connection.recv(1)
            took_s = time.perf_counter() - started
        connection.close()
        return Made(sandbox_id, folder, took_s)

    def checkpoint(self, made: Made, *, leave_running: bool) -> float:
        """Seconds of a checkpoint; without `leave_running` with the end of the sandbox: that is a pause."""
        image = made.folder / f"checkpoint-{secrets.token_hex(3)}"
        image.mkdir()
        pids = self._cgroups.pids(made.id)
        started = time.perf_counter()
        options = ["--leave-running"] if leave_running else []
        self._runsc("checkpoint", "--compression=none", f"--image-path={image}", *options, made.id)
        if not leave_running:
            self._delete(made.id, pids)
        took_s = time.perf_counter() - started
        shutil.rmtree(image)
        return took_s

    def run(self, image: Image, limits: Limits, argv: Sequence[str]) -> float:
        """Seconds of a cold `runsc run`, from its call to its end."""
        sandbox_id, folder = self._bundle(image, limits, Command(argv=tuple(argv)), with_runner=False)
        started = time.perf_counter()
        said = self._runsc("run", f"--bundle={folder}", sandbox_id)
        took_s = time.perf_counter() - started
        if said.strip() != b"2":
            raise RuntimeError(f"runsc run said {said[:200]!r}")
        self._clear(sandbox_id, folder)
        return took_s

    def end(self, made: Made, *, deleted: bool = False) -> None:
        if not deleted:
            self._delete(made.id, self._cgroups.pids(made.id))
        self._clear(made.id, made.folder)

    def _delete(self, sandbox_id: str, pids: Sequence[int]) -> None:
        """Killed by its cgroup and reaped at once, then deleted: the fastest way there is."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._runsc("delete", "--force", sandbox_id)

    def _clear(self, sandbox_id: str, folder: Path) -> None:
        self._cgroups.clear(sandbox_id)
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        for sandbox_id in self._cgroups.leftovers():  # of a step that failed: it would run on for ever
            self._cgroups.clear(sandbox_id)
        self._cgroups.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _bundle(self, image: Image, limits: Limits, command: Command, *, with_runner: bool) -> tuple[str, Path]:
        sandbox_id = f"bare-{secrets.token_hex(6)}"
        folder = self._folder / sandbox_id
        for name in ("in", "sockets"):
            (folder / name).mkdir(parents=True)
        mounts = [
            Bind(source=RUNNER, target="/opt/sandpool"),
            Bind(source=folder / "in", target="/in"),
            Bind(source=folder / "sockets", target="/run/sandpool"),
        ]
        spec = build_spec(image, limits, command, mounts if with_runner else [], self._cgroups.place(sandbox_id))
        (folder / "config.json").write_text(json.dumps(spec))
        return sandbox_id, folder

    def _runsc(self, *arguments: str) -> bytes:
        # Detached sandboxes keep what they are given: a file, for a pipe would never end.
        detached = "--detach" in arguments
        done = subprocess.run(
            ["runsc", f"--root={self._folder / 'state'}", *FLAGS, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if detached else subprocess.PIPE,
            stderr=subprocess.DEVNULL if detached else subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"runsc {arguments[0]} ended with {done.returncode}: {(done.stderr or b'')[-300:]!r}")
        return done.stdout or b""
