"""A tiny program between an owner and a server: the server and all below it end with the owner, even by SIGKILL.

Run by `cluster.local.process` as a script, with the standard library only (started with `-I -S`, ready in 30 ms). It
becomes the subreaper of everything below it, so that nothing escapes by daemonising, opening a session of its own or
changing its user, and watches the owner through a pidfd. It never restarts anything.

Why not PR_SET_PDEATHSIG on the server: the kernel clears it when the server changes its user, and it fires when the
*thread* that started the server ends. Why not a pipe held by the owner: any forked child of the owner keeps it open.

Signals: TERM or INT stops politely (the server's own stop signal, then KILL after the grace time); USR1 kills at once.
Status, one line each on the given descriptor: `pid N` or `error TEXT`, then `exit CODE` (negative: ended by a signal).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TICK_S = 0.05


def descendants(root: int) -> list[int]:
    """Every process below `root`, children before grandchildren, zombies included. Empty when there is none."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes()
        except OSError:
            continue  # ended between the listing and the read
        parent = int(stat[stat.rindex(b")") + 2 :].split()[1])  # the name in parentheses may hold spaces
        children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    frontier = [root]
    while frontier:
        frontier = [child for parent in frontier for child in children.get(parent, ())]
        found += frontier
    return found


def runs(pid: int) -> bool:
    """Whether any thread of this process could still do something: neither stopped nor ended."""
    try:
        stats = [(task / "stat").read_bytes() for task in Path("/proc", str(pid), "task").iterdir()]
    except OSError:
        return False  # it ended
    return any(stat[stat.rindex(b")") + 2 :][:1] not in b"TtZX" for stat in stats)


def signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class Leash:
    """One server on its leash. Single-threaded: every wait is one `poll` on our wake-up pipe and the owner's pidfd."""

    def __init__(self, owner: int, stop_signal: int, grace_s: float, status_fd: int) -> None:
        self._stop_signal = stop_signal
        self._grace_s = grace_s
        self._status_fd = status_fd
        self._server = 0
        self._code: int | None = None
        self._poll = select.poll()
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        self._received: list[int] = []
        self.orphaned = False
        for number in HANDLED:
            signal.signal(number, lambda received, _frame: self._received.append(received))
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._poll.register(self._wake, select.POLLIN)
        try:
            self._owner = os.pidfd_open(owner)
        except ProcessLookupError:
            raise SystemExit("the owner ended before its server started") from None
        self._poll.register(self._owner, select.POLLIN)

    def start(self, command: Sequence[str], uid: int | None, gid: int | None) -> None:
        trouble, trouble_write = os.pipe()  # closed by a successful exec: end of file means that the program runs
        self._server = os.fork()
        if self._server == 0:
            become(command, uid, gid, trouble_write)
        os.close(trouble_write)
        with open(trouble, "rb") as reader:
            said = reader.read(1024).decode(errors="replace")
        self._say(f"error {said}" if said else f"pid {self._server}")

    def watch(self) -> int:
        """Until the server ends by itself, or we are told to end it, or the owner is gone. The server's exit code."""
        while self._code is None:
            self.orphaned = self._pause(None)
            if signal.SIGUSR1 in self._received:
                break
            if self.orphaned or signal.SIGTERM in self._received or signal.SIGINT in self._received:
                self._stop_politely()
                break
        self._end_all()
        code = self._code if self._code is not None else -signal.SIGKILL
        self._say(f"exit {code}")
        return code

    def _pause(self, timeout_s: float | None) -> bool:
        """Wait for anything to happen, reap what ended; whether the owner is gone."""
        ready = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        self._reap()
        return any(descriptor == self._owner for descriptor, _ in ready)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._server:
                self._code = os.waitstatus_to_exitcode(status)

    def _stop_politely(self) -> None:
        self._poll.unregister(self._owner)  # it stays readable once the owner is gone, and would make the wait spin
        deadline = time.monotonic() + self._grace_s
        signal_all([self._server], self._stop_signal)
        signal_all([self._server], signal.SIGCONT)
        while self._code is None and time.monotonic() < deadline and signal.SIGUSR1 not in self._received:
            self._pause(TICK_S)

    def _end_all(self) -> None:
        """Kill every descendant until none is left: one killed may have started another just before."""
        while True:
            self._reap()
            remaining = descendants(os.getpid())
            if not remaining:
                return
            signal_all(remaining, signal.SIGKILL)
            time.sleep(0.005)

    def _say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the owner is gone; nobody is left to tell
            os.write(self._status_fd, line.encode() + b"\n")


def become(command: Sequence[str], uid: int | None, gid: int | None, trouble_fd: int) -> None:
    """Turn this forked child into the server, as the given user. Never returns; what goes wrong is told on the pipe."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*HANDLED, signal.SIGPIPE, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if uid is not None and gid is not None:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.execvp(command[0], list(command))  # noqa: S606 - a shell would read the arguments again
    except OSError as error:
        os.write(trouble_fd, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--grace-s", type=float, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--remove-if-orphaned")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    os.set_inheritable(options.status_fd, False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("cannot become a subreaper: Linux 3.4 or newer is needed")
    leash = Leash(options.owner, options.stop_signal, options.grace_s, options.status_fd)
    leash.start(options.command, options.uid, options.gid)
    code = leash.watch()
    if leash.orphaned and options.remove_if_orphaned:
        shutil.rmtree(options.remove_if_orphaned, ignore_errors=True)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
