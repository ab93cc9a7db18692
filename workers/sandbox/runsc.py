"""Carries out every runsc command: the only file of sandboxes that starts processes, and always through the reaper.

Called by `sandboxes`. Every command has a deadline; one that passes it is killed and reported as RunscHung. What runsc
says is translated into the errors of `errors`. It never retries, never decides what a sandbox may do (`bundle` does)
and never keeps files (`sandboxes` and `snapshot` do). One event loop; `start` and `close` belong to one owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers.sandbox import reaper
from workers.sandbox.capture import Budget, Pipe
from workers.sandbox.channel import Channel, Sentry
from workers.sandbox.errors import (
    NotPermitted,
    ReaperLost,
    RunscFailed,
    RunscHung,
    RunscMissing,
    RunscUnsuitable,
    SandboxEnded,
    SandboxError,
    UnknownSandbox,
)
from workers.sandbox.execution import run_captured
from workers.sandbox.invocation import Finished, Launch, RunscSpec, SandboxState
from workers.sandbox.translation import translate, why_not_started

OLDEST_RELEASE = 20230801
"""Older ones have no systrap platform, or one that leaks memory."""
GRACE_S = 5.0
DRAIN_S = 0.5
"""For output still in the pipe when its command has ended; a process left behind may hold the pipe for ever."""
RUNSC_FAILED, NOT_STARTED = 128, 127
"""runsc's exit code for its own failures; a shell's for a program that cannot be started."""
ENDING_S = 0.3
"""For the news of a sandbox's end, which may come after the news of the command that ran in it."""
PID_FILE_S = 2.0
"""For the number of a process: one that floods its output is over its limit before runsc has written that."""
SAID_BYTES = 16 * 1024
LISTING_BYTES = 16 * 1024 * 1024
HOST_DESCRIPTORS = 20_000
"""Host file descriptors of one sandbox's sentry, and of its gofer."""

_RELEASE = re.compile(r"runsc version \S*?(\d{8})\b")


class Runsc:
    def __init__(self, spec: RunscSpec) -> None:
        self._spec = spec
        self._deadlines = spec.deadlines
        self._binary = ""
        self._flags: tuple[str, ...] = ()
        self._channel: Channel | None = None
        self._null = -1
        self._reaper: subprocess.Popen[bytes] | None = None
        self._sentries: dict[str, Sentry] = {}
        self.version = ""
        """Release of runsc as YYYYMMDD, once started: snapshots restore only under the same."""

    @property
    def platform(self) -> str:
        return self._spec.platform

    @property
    def alive(self) -> bool:
        """Whether the reaper is there; without it every call raises ReaperLost until `start` is called again."""
        return self._channel is not None and self._channel.alive

    async def wait_lost(self, timeout_s: float) -> bool:
        """Whether the reaper is gone; returns at once when it goes, and after `timeout_s` in any case."""
        if self._channel is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._channel.closed.wait()
        return not self.alive

    async def start(self) -> None:
        """Check that sandboxes can run here and start the reaper. Raises SandboxingUnavailable with what to do."""
        if self.alive:
            return
        await self.close()
        await asyncio.to_thread(self._prepare)
        self._channel = Channel(await asyncio.to_thread(self._start_reaper))
        try:
            self.version = await self._find_version()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every sandbox and every command of this host. Returns when nothing of them runs."""
        channel, self._channel = self._channel, None
        process, self._reaper = self._reaper, None
        if channel is not None:
            channel.close()
        self._sentries.clear()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
        if process is None:
            return
        deadline = time.monotonic() + GRACE_S
        # Polled: a child watcher would need a thread, or the loop of the main thread.
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        if process.poll() is None:
            process.kill()

    async def create(self, sandbox_id: str, launch: Launch) -> None:
        """Make the sandbox, its first process not started yet."""
        await self._launch("create", sandbox_id, launch, (), self._deadlines.create_s)

    async def start_process(self, sandbox_id: str) -> None:
        """Start the first process of a created sandbox."""
        await self._call("start", sandbox_id, timeout_s=self._deadlines.start_s)

    async def run(self, sandbox_id: str, launch: Launch) -> None:
        """`create` and `start_process` in one command. Returns while the first process runs."""
        await self._launch("run", sandbox_id, launch, ("--detach",), self._deadlines.create_s)

    async def restore(self, sandbox_id: str, launch: Launch, checkpoint: Path) -> None:
        """A new sandbox that goes on where the checkpoint was taken. One checkpoint serves any number of them."""
        arguments = ("--detach", f"--image-path={checkpoint}")
        await self._launch("restore", sandbox_id, launch, arguments, self._deadlines.restore_s)

    async def checkpoint(self, sandbox_id: str, folder: Path, *, leave_running: bool = False) -> None:
        """Save memory and file systems into the empty `folder`; uncompressed, because that restores twice as fast.

        Without `leave_running` the sandbox has ended afterwards. Raises CheckpointRefused (the sandbox goes on) while
        it holds a connection to a socket of the host.
        """
        arguments = ["--compression=none", f"--image-path={folder}", *(["--leave-running"] if leave_running else [])]
        await self._call("checkpoint", *arguments, sandbox_id, timeout_s=self._deadlines.checkpoint_s)

    async def pause(self, sandbox_id: str) -> None:
        """Hold every process inside where it is; its memory stays. `checkpoint` works on a held sandbox."""
        await self._call("pause", sandbox_id, timeout_s=self._deadlines.query_s)

    async def resume(self, sandbox_id: str) -> None:
        """Let a held sandbox go on."""
        await self._call("resume", sandbox_id, timeout_s=self._deadlines.query_s)

    async def execute(
        self, sandbox_id: str, process: Path, *, stdin: bytes = b"", timeout_s: float, output_bytes: int
    ) -> Finished:
        """Run one more process inside (`process`: a JSON file as `bundle.build_process` makes it) until it ends.

        One that runs longer than `timeout_s` or writes more than `output_bytes` is killed; processes that *it* started
        may go on until the sandbox is destroyed. One that cannot be started ends with 127, as in a shell. Raises
        SandboxEnded when the sandbox itself is gone, UnknownSandbox when there was none.
        """
        pid_file = process.with_suffix(".pid")
        argv = self._argv("exec", f"--process={process}", f"--internal-pid-file={pid_file}", sandbox_id)
        finished = await run_captured(
            self._require_channel(),
            argv,
            stdin=stdin,
            timeout_s=timeout_s,
            output_bytes=output_bytes,
            end_inside=lambda: self._end_inside(sandbox_id, pid_file),
        )
        if finished.code != RUNSC_FAILED:
            return finished
        if not await asyncio.to_thread(pid_file.exists):
            said = finished.stderr.decode(errors="replace")
            reason = why_not_started(said)
            if reason is None:
                raise translate("exec", finished.code, said)
            return replace(finished, code=NOT_STARTED, stderr=reason.encode())
        if await self._ends_soon(sandbox_id):
            hint = "its memory limit may be too low"
            raise SandboxEnded("the sandbox ended while a command ran in it", hint=hint)
        return finished  # the program's own exit code happens to be the same

    async def kill(self, sandbox_id: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal every process inside."""
        await self._call("kill", "--all", sandbox_id, str(int(number)), timeout_s=self._deadlines.query_s)

    async def delete(self, sandbox_id: str) -> None:
        """End the sandbox, whatever it does, and forget it. UnknownSandbox when there is none."""
        await self._call("delete", "--force", sandbox_id, timeout_s=self._deadlines.delete_s)
        self._sentries.pop(sandbox_id, None)

    async def state(self, sandbox_id: str) -> SandboxState:
        return _parse_state(
            "state", _parse_json("state", await self._call("state", sandbox_id, timeout_s=self._deadlines.query_s))
        )

    async def list_states(self) -> tuple[SandboxState, ...]:
        """Every sandbox whose state lies in our folder, also those of an earlier host process."""
        said = _parse_json("list", await self._call("list", "--format=json", timeout_s=self._deadlines.query_s))
        return tuple(_parse_state("list", item) for item in said or ())

    async def wait(self, sandbox_id: str, timeout_s: float) -> int:
        """Exit code of the first process (negative: ended by that signal) once the sandbox has ended. TimeoutError."""
        sentry = self._sentries.get(sandbox_id)
        if sentry is None:
            raise UnknownSandbox(f"no sandbox {sandbox_id} on this host")
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(sentry.end)

    def has_ended(self, sandbox_id: str) -> bool:
        """Whether the sandbox is gone; no command is run for the answer."""
        sentry = self._sentries.get(sandbox_id)
        return sentry is None or sentry.end.done()

    def exit_code(self, sandbox_id: str) -> int | None:
        """How the first process ended; None while it runs, and for a sandbox that we do not know."""
        sentry = self._sentries.get(sandbox_id)
        return sentry.end.result() if sentry is not None and sentry.end.done() else None

    def purge(self, sandbox_id: str) -> None:
        """Forget a sandbox that is gone: remove what runsc keeps of it. Nothing of it may run any more."""
        self._sentries.pop(sandbox_id, None)
        for pattern in (f"{sandbox_id}_sandbox:*", f"runsc-{sandbox_id}.sock"):
            for file in self._spec.folder.glob(pattern):
                file.unlink(missing_ok=True)

    def _argv(self, verb: str, *arguments: str, log: Path | None = None, flags: Sequence[str] = ()) -> list[str]:
        logging = [f"--log={log}", "--log-format=json"] if log else []
        return [self._binary, *self._flags, *flags, *logging, verb, *arguments]

    async def _launch(
        self, verb: str, sandbox_id: str, launch: Launch, arguments: Sequence[str], timeout_s: float
    ) -> None:
        """A command that leaves a sandbox behind, which keeps its descriptors: errors come by a log, not by a pipe."""
        channel, bundle = self._require_channel(), launch.bundle
        log, pid_file = bundle / "runsc.log", bundle / "pid"
        arguments = [*arguments, f"--bundle={bundle}", f"--pid-file={pid_file}", sandbox_id]
        argv = self._argv(verb, *arguments, log=log, flags=launch.flags)
        stdio = (launch.stdin, launch.stdout, launch.stderr)
        descriptors = [self._null if given is None else given for given in stdio]
        read_only = [str(path) for path in launch.read_only]
        request = await channel.send(argv, descriptors, pid_file=str(pid_file), read_only=read_only)
        try:
            reply = await channel.reply(request, verb, timeout_s)
        except RunscHung as hung:
            raise RunscHung(verb, timeout_s, await asyncio.to_thread(_tail, log)) from hung
        if reply.code != 0:
            raise translate(verb, reply.code, await asyncio.to_thread(_tail, log) or reply.error)
        if reply.sandbox is None:
            raise RunscFailed(verb, reply.code, "it named no process of the sandbox")
        self._sentries[sandbox_id] = reply.sandbox

    async def _call(self, *command: str, timeout_s: float) -> bytes:
        """A command that leaves nothing behind; what it wrote to stdout."""
        return await self._capture(command[0], self._argv(*command), timeout_s)

    async def _capture(self, verb: str, argv: Sequence[str], timeout_s: float) -> bytes:
        channel = self._require_channel()
        stdout, stderr = Pipe(Budget(LISTING_BYTES)), Pipe(Budget(SAID_BYTES))
        try:
            request = await channel.send(argv, (self._null, stdout.write_end, stderr.write_end))
            stdout.hand_over()
            stderr.hand_over()
            reply = await channel.reply(request, verb, timeout_s)
            await asyncio.gather(stdout.ended(DRAIN_S), stderr.ended(DRAIN_S))
            if reply.code != 0:
                raise translate(verb, reply.code, stderr.close().decode(errors="replace") or reply.error)
            return stdout.close()
        finally:
            stdout.close()
            stderr.close()

    async def _ends_soon(self, sandbox_id: str) -> bool:
        """Whether the sandbox itself is gone, or is just about to be: a program may end with runsc's own code too."""
        with contextlib.suppress(TimeoutError, UnknownSandbox):
            await self.wait(sandbox_id, ENDING_S)
        return self.has_ended(sandbox_id)

    async def _end_inside(self, sandbox_id: str, pid_file: Path) -> None:
        """Kill a process inside that has used up its time or output; where that fails, everything inside."""
        try:
            inside = await asyncio.to_thread(_read_pid, pid_file)
            await self._call("kill", f"--pid={inside}", sandbox_id, "9", timeout_s=self._deadlines.query_s)
        except (OSError, SandboxError):
            with contextlib.suppress(SandboxError):
                await self.kill(sandbox_id)

    async def _find_version(self) -> str:
        try:
            said = await self._capture("tell its version of", [self._binary, "--version"], self._deadlines.query_s)
        except RunscFailed as error:
            raise RunscUnsuitable(
                "runsc does not tell its version", hint="reinstall runsc", detail=error.detail
            ) from error
        match = _RELEASE.search(said.decode(errors="replace"))
        if match is None or int(match[1]) < OLDEST_RELEASE:
            found = said[:100].decode(errors="replace").split("\n")[0] or "nothing"
            hint = "run `make setup` (on Debian 12 it comes from bookworm-backports)"
            raise RunscUnsuitable(f"runsc of {OLDEST_RELEASE} or newer is needed, this one says: {found}", hint=hint)
        return match[1]

    def _prepare(self) -> None:
        binary = shutil.which(self._spec.binary)
        if binary is None:
            hint = "run `make setup`, or install the package `runsc`"
            raise RunscMissing("runsc (gVisor) is not installed", hint=hint)
        if os.geteuid() != 0:
            hint = "run the host as root: gVisor itself drops it at once"
            raise NotPermitted("sandboxes need root on their host", hint=hint)
        self._spec.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._binary = binary
        self._flags = (
            f"--root={self._spec.folder}",
            f"--platform={self._spec.platform}",
            "--network=none",  # loopback only
            "--overlay2=none",  # see bundle: what may be written are sized file systems in memory
            "--host-uds=open",  # the runner connects out to the one socket mounted at /run/sandpool
            "--host-fifo=none",
            f"--fdlimit={HOST_DESCRIPTORS}",
        )
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def _start_reaper(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid())]
            null = subprocess.DEVNULL
            self._reaper = subprocess.Popen(  # noqa: S603 - our own file, no shell
                command, stdin=theirs.fileno(), stdout=null, stderr=null, start_new_session=True, env={}
            )
        return ours

    def _require_channel(self) -> Channel:
        if self._channel is None or not self._channel.alive:
            raise ReaperLost("this sandbox host is not running", hint="start it again; its sandboxes are gone")
        return self._channel


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SAID_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _parse_json(verb: str, said: bytes) -> Any:
    try:
        return json.loads(said)
    except ValueError as error:
        raise RunscFailed(verb, 0, f"not JSON: {said[:200]!r}") from error


def _parse_state(verb: str, item: Any) -> SandboxState:
    try:
        return SandboxState(sandbox_id=item["id"], pid=item["pid"], status=item["status"])
    except (KeyError, TypeError) as error:
        raise RunscFailed(verb, 0, f"not the state of a sandbox: {str(item)[:200]}") from error


def _read_pid(pid_file: Path) -> int:
    """The number that runsc writes once the process runs. Blocks, for PID_FILE_S at most. Raises OSError."""
    until_s = time.monotonic() + PID_FILE_S
    while True:
        with contextlib.suppress(FileNotFoundError):
            said = pid_file.read_text().strip()
            if said.isdigit():
                return int(said)
        if time.monotonic() >= until_s:
            raise FileNotFoundError(f"{pid_file.name}: runsc named no process")
        time.sleep(0.005)
