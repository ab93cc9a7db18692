"""A small process between a host and its sandboxes: starts runsc, reaps what it leaves, ends all of it with the host.

Run by `runsc` as a script with the standard library only (`-I -S`: ready in 20 ms, 10 MB). It never decides anything.

Why a process of its own:
* runsc's sandboxes are orphans by design (`runsc create` ends, its sentry and gofer stay). `runsc delete` waits until
  their zombies are reaped: 20 ms below a subreaper that waits for *every* child, seconds below a slow PID 1. A host
  that did this itself would steal the exit statuses of its own subprocesses and those of its libraries.
* when the host ends, even by SIGKILL, nothing of its sandboxes is left.

The channel is a SOCK_SEQPACKET pair on descriptor 0; one JSON object per packet. Requests: `{"id", "argv",
"pid_file"?, "read_only"?}` with three descriptors (stdin, stdout, stderr) attached, or `{"kill": id}`. Replies:
`{"id", "code", "pid"?}` when the command has ended (`pid`: the sandbox that the pid file named), `{"pid", "gone":
code}` when that sandbox has ended. Codes are those of `waitstatus_to_exitcode`: negative means ended by that signal.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
LIBC = ctypes.CDLL(None, use_errno=True)
SAID_BYTES = 4096
MAX_PACKET_BYTES = 160 * 1024
REMEMBERED_EXITS = 1024
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM)
"""A Ctrl-C, or a service manager that signals the whole group, is for the host, which then closes the channel."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""Nothing of the host's own environment reaches runsc."""


def descendants(root: int) -> list[int]:
    """Every process below `root`, zombies included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
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


class Reaper:
    """Single-threaded: every wait is one `poll` on the channel, the host's pidfd and the wake-up pipe of SIGCHLD."""

    def __init__(self, channel: socket.socket, host_pid: int) -> None:
        self._channel = channel
        self._commands: dict[int, tuple[int, str]] = {}  # pid -> (request id, pid file)
        self._sandboxes: set[int] = set()
        self._exits: dict[int, int] = {}  # pids that ended and are nobody's yet, oldest first
        self._wake, wake_write = os.pipe()
        for end in (self._wake, wake_write):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._host = os.pidfd_open(host_pid)
        self._poll = select.poll()
        for descriptor in (self._channel.fileno(), self._wake, self._host):
            self._poll.register(descriptor, select.POLLIN)

    def serve(self) -> None:
        """Until the host closes the channel or is gone. Then everything below us is killed."""
        try:
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll()}
                if self._wake in ready:
                    os.read(self._wake, 4096)
                    self._reap()
                if self._host in ready or (self._channel.fileno() in ready and not self._obey()):
                    return
        except OSError:
            return  # the channel broke: nobody is left to tell
        finally:
            self._end_all()

    def _obey(self) -> bool:
        """One request; whether the host is still there."""
        packet, descriptors, _flags, _address = self._receive()
        if not packet:
            return False
        request = json.loads(packet)
        if "kill" in request:
            self._kill(request["kill"])
            return True
        try:
            pid = self._spawn(request["argv"], descriptors, request.get("read_only", []))
        except OSError as error:
            self._say({"id": request["id"], "code": 127, "error": error.strerror or str(error)})
        else:
            self._commands[pid] = (request["id"], request.get("pid_file", ""))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    @staticmethod
    def _spawn(argv: list[str], descriptors: list[int], read_only: list[str]) -> int:
        """The command in a session of its own, so that a hung one can be killed whole; sandboxes have theirs anyway."""
        if not read_only:
            actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(descriptors)]
            return os.posix_spawn(argv[0], argv, ENVIRONMENT, file_actions=actions, setsid=True, setsigdef=IGNORED)
        listen, report = os.pipe()  # closed by a successful exec
        pid = os.fork()  # we have one thread and little memory: this is safe and takes a millisecond
        if pid == 0:
            become(argv, descriptors, read_only, report)
        os.close(report)
        failure = os.read(listen, SAID_BYTES)
        os.close(listen)
        if failure:
            os.waitpid(pid, 0)
            raise OSError(0, failure.decode())
        return pid

    def _receive(self) -> tuple[bytes, list[int], int, object]:
        space = socket.CMSG_SPACE(3 * 4)
        data, ancillary, flags, address = self._channel.recvmsg(MAX_PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        descriptors: list[int] = []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += [int.from_bytes(content[i : i + 4], sys.byteorder) for i in range(0, len(content), 4)]
        return data, descriptors, flags, address

    def _kill(self, request_id: int) -> None:
        for pid, (known, _pid_file) in self._commands.items():
            if known == request_id:
                os.killpg(pid, signal.SIGKILL)

    def _reap(self) -> None:
        ended: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended.append((pid, os.waitstatus_to_exitcode(status)))
        for pid, code in ended:
            if pid in self._sandboxes:
                self._sandboxes.discard(pid)
                self._say({"pid": pid, "gone": code})
            elif pid not in self._commands:
                self._exits[pid] = code
                while len(self._exits) > REMEMBERED_EXITS:
                    del self._exits[next(iter(self._exits))]
        for pid, code in ended:
            if pid in self._commands:
                self._finish(pid, code)

    def _finish(self, command: int, code: int) -> None:
        request_id, pid_file = self._commands.pop(command)
        sandbox = self._read_pid(pid_file) if pid_file and code == 0 else 0
        if not sandbox:
            self._say({"id": request_id, "code": code})
            return
        self._say({"id": request_id, "code": code, "pid": sandbox})
        if sandbox in self._exits:  # it ended before the command that started it
            self._say({"pid": sandbox, "gone": self._exits.pop(sandbox)})
        elif not os.path.exists(f"/proc/{sandbox}"):  # and the command reaped it itself: its exit code is lost
            self._say({"pid": sandbox, "gone": -signal.SIGKILL})
        else:
            self._sandboxes.add(sandbox)

    @staticmethod
    def _read_pid(pid_file: str) -> int:
        try:
            return int(Path(pid_file).read_text())
        except (OSError, ValueError):
            return 0

    def _say(self, reply: dict[str, object]) -> None:
        self._channel.sendall(json.dumps(reply).encode())

    def _end_all(self) -> None:
        """Kill until nothing is below us: what was killed may have started something just before."""
        while True:
            remaining = descendants(os.getpid())
            if not remaining:
                return
            for pid in remaining:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                return
            time.sleep(0.002)


def become(argv: list[str], descriptors: list[int], read_only: list[str], report: int) -> None:
    """Turn this forked child into the command, with these paths read-only for it and all it starts. Never returns.

    runsc (20240729) leaves the read-only mounts of its gofer writable for the host's kernel and forgets to check
    O_TRUNC: `open(file, O_TRUNC)` inside emptied the file outside. A bind mount inherits the flag of what it binds, so
    the kernel itself refuses from here on. The mount namespace ends with the sandbox: nothing to clean up.
    """
    try:
        for ours in (*IGNORED, signal.SIGCHLD):
            signal.signal(ours, signal.SIG_DFL)
        os.setsid()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        checked(LIBC.unshare(CLONE_NEWNS), "unshare")
        checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")
        for path in map(os.fsencode, read_only):
            checked(LIBC.mount(path, path, None, MS_BIND, None), f"bind {os.fsdecode(path)}")
            checked(
                LIBC.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, None), "remount"
            )
        os.execve(argv[0], argv, ENVIRONMENT)  # noqa: S606 - that is the point
    except BaseException as error:  # noqa: BLE001 - nothing may go on in this copy of the reaper
        os.write(report, f"{type(error).__name__}: {error}".encode()[:SAID_BYTES])
    finally:
        os._exit(127)


def checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def main() -> None:
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("cannot become a subreaper: Linux 3.4 or newer is needed")
    Reaper(channel, int(sys.argv[1])).serve()


if __name__ == "__main__":
    main()
