"""One server process that we own: started on a leash, stopped within a bound, gone with us however we end.

Used by `cluster.local.rabbitmq` and `cluster.local.postgres`. Blocking, for one thread at a time. It never restarts a
server by itself and never touches a process that it did not start. Linux only (`/proc`, pidfd, subreaper).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.local import leash
from cluster.local.account import Account
from cluster.local.errors import ServiceFailed

START_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 10.0
POLL_S = 0.02
FREEZE_AGAIN_S = 0.5
LOG_TAIL_BYTES = 4096
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class OwnedProcess:
    """A server and all its descendants. `start` and `stop` may alternate any number of times."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        env: Mapping[str, str],
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 10.0,
        remove_if_orphaned: Path | None = None,
    ) -> None:
        """`folder` becomes the working folder; `env` (plus PATH) is the whole environment; `grace_s` bounds a stop;
        `remove_if_orphaned` is a folder that is deleted if this process ends without having stopped the server."""
        self.name = name
        self._command = tuple(command)
        self._folder = folder
        self._log = log
        self._env = {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8", **env}
        self._account = account
        self._stop_signal = stop_signal
        self._grace_s = grace_s
        self._remove_if_orphaned = remove_if_orphaned
        self._leash: subprocess.Popen[bytes] | None = None
        self._status = -1
        self._said = b""
        self.pid: int | None = None

    def start(self) -> None:
        """Start it and return once the program is running (not: once it is ready, see `wait_until`)."""
        if self.running:
            return
        self._forget()
        # No link is followed: we may be root, and the folder belongs to the server's user.
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        status, status_write = os.pipe()
        self._status = status
        command = [sys.executable, "-I", "-S", leash.__file__, f"--owner={os.getpid()}", f"--grace-s={self._grace_s}"]
        command += [f"--stop-signal={self._stop_signal.value}", f"--status-fd={status_write}"]
        if self._account is not None:
            command += [f"--uid={self._account.uid}", f"--gid={self._account.gid}"]
        if self._remove_if_orphaned is not None:
            command += [f"--remove-if-orphaned={self._remove_if_orphaned}"]
        try:
            with open(descriptor, "ab") as log:
                self._leash = subprocess.Popen(  # noqa: S603 - the command is our caller's own, no shell
                    [*command, "--", *self._command],
                    cwd=self._folder,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[status_write],
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, in our order
                )
        finally:
            os.close(status_write)
        first = self._read_line(START_TIMEOUT_S)
        if not first.startswith("pid "):
            self.kill()
            raise ServiceFailed(self.name, f"did not start: {first or 'its leash ended'}", self.log_tail())
        self.pid = int(first.removeprefix("pid "))

    @property
    def running(self) -> bool:
        return self._leash is not None and self._leash.poll() is None

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Poll `ready` until it is true. ServiceFailed with the log's end when the server ends first or is late."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise ServiceFailed(self.name, f"ended while starting ({self._last_words()})", self.log_tail())
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceFailed(self.name, f"was not ready after {timeout_s:g} s", self.log_tail())
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Politely first, then KILL after the grace time. Returns when nothing of it is left."""
        self._end(signal.SIGTERM, self._grace_s + KILL_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL to everything at once, as a crash would. Returns when nothing of it is left."""
        self._end(signal.SIGUSR1, KILL_TIMEOUT_S)

    def freeze(self) -> None:
        """Stop it from running without ending it: connections stay open and nothing answers. Returns once it stands
        still: on a busy machine a thread may go on for a good while after the signal."""
        self._signal_tree(signal.SIGSTOP)
        began = again = time.monotonic()
        while self._leash is not None and any(map(leash.runs, leash.descendants(self._leash.pid))):
            now = time.monotonic()
            if now > began + KILL_TIMEOUT_S:
                raise ServiceFailed(self.name, f"did not stand still within {KILL_TIMEOUT_S:g} s", self.log_tail())
            if now > again + FREEZE_AGAIN_S:
                # A child stopped between vfork and exec holds its parent, which cannot stop; another was born late.
                self._signal_tree(signal.SIGCONT)
                time.sleep(POLL_S)
                self._signal_tree(signal.SIGSTOP)
                again = now
            time.sleep(POLL_S)

    def thaw(self) -> None:
        self._signal_tree(signal.SIGCONT)

    def log_tail(self) -> str:
        """The end of what the server wrote."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        if self._leash is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._leash.send_signal(number)
        try:
            self._leash.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServiceFailed(
                self.name, f"was still there {timeout_s:g} s after it was told to end", self.log_tail()
            ) from None
        self._forget()

    def _signal_tree(self, number: signal.Signals) -> None:
        if self._leash is not None and self.running:
            leash.signal_all(leash.descendants(self._leash.pid), number)

    def _forget(self) -> None:
        if self._status >= 0:
            os.close(self._status)
        self._status, self._said, self._leash, self.pid = -1, b"", None, None

    def _read_line(self, timeout_s: float) -> str:
        """The next line of the leash's status, or "" when it ended or is late."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._said:
            poll = select.poll()  # not select(): this process may hold more than 1,024 descriptors
            poll.register(self._status, select.POLLIN)
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            chunk = os.read(self._status, 4096) if ready else b""
            if not chunk:
                return ""
            self._said += chunk
        line, self._said = self._said.split(b"\n", 1)
        return line.decode(errors="replace")

    def _last_words(self) -> str:
        return self._read_line(1.0) or "no exit code"
