"""The reaper and its channel with ordinary programs in place of runsc: real processes, no privileges."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workers.sandbox import reaper
from workers.sandbox.capture import Budget, Pipe
from workers.sandbox.channel import Channel, Reply
from workers.sandbox.errors import ReaperLost, RunscHung

LEAVE_ONE = "sleep {seconds} & echo $! > {file}"


class Host:
    """A reaper and our end of its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid())]
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True)
        self.channel = Channel(ours)
        self._null = os.open(os.devnull, os.O_RDWR)

    async def run(self, script: str, *, timeout_s: float = 5, pid_file: Path | None = None) -> tuple[Reply, bytes]:
        pipe = Pipe(Budget(1 << 16))
        argv = ["/bin/sh", "-c", script]
        request = await self.channel.send(argv, (self._null, pipe.write_end, self._null), pid_file=str(pid_file or ""))
        pipe.hand_over()
        try:
            return await self.channel.reply(request, "run", timeout_s), pipe.close()
        finally:
            pipe.close()

    def children(self) -> list[int]:
        return reaper.descendants(self.process.pid)

    def close(self) -> int:
        self.channel.close()
        os.close(self._null)
        return self.process.wait(5)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    if host.process.poll() is None:
        host.close()


async def until_empty(host: Host) -> list[int]:
    deadline = time.monotonic() + 5
    while (left := await asyncio.to_thread(host.children)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return left


async def test_exit_codes_and_output_come_back(host: Host) -> None:
    assert (await host.run("exit 7"))[0].code == 7
    assert (await host.run("kill -9 $$"))[0].code == -9
    reply, output = await host.run("echo to stdout; echo to stderr >&2")
    assert (reply.code, output) == (0, b"to stdout\n")


async def test_many_commands_at_once_are_not_mixed_up(host: Host) -> None:
    replies = await asyncio.gather(
        *(host.run(f"sleep 0.0{number % 7}; echo {number}; exit {number}") for number in range(40))
    )
    assert [(reply.code, output) for reply, output in replies] == [(number, b"%d\n" % number) for number in range(40)]


async def test_a_program_that_is_not_there_is_reported(host: Host) -> None:
    request = await host.channel.send(["/no/such/program"], (0, 1, 2))
    reply = await host.channel.reply(request, "run", 5)
    assert reply.code == 127
    assert "No such file" in reply.error


async def test_the_environment_of_the_host_does_not_reach_commands(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "value")
    assert b"HOST_SECRET" not in (await host.run("env"))[1]


async def test_commands_inherit_no_descriptors_but_three(host: Host) -> None:
    assert (await host.run("ls /proc/self/fd | sort"))[1].split() == [b"0", b"1", b"2", b"3"]  # 3: ls reads the folder


async def test_what_a_command_leaves_behind_is_reaped_and_its_end_told(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    reply, _ = await host.run(LEAVE_ONE.format(seconds=100, file=file) + "; exit 0", pid_file=file)
    assert reply.sandbox is not None
    assert not reply.sandbox.end.done()
    os.kill(reply.sandbox.pid, signal.SIGTERM)
    assert await asyncio.wait_for(reply.sandbox.end, 5) == -signal.SIGTERM
    assert await until_empty(host) == []


async def test_the_end_of_one_that_ended_before_its_command_is_told_too(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    orphan = f"setsid -f sh -c 'echo $$ > {file}; exit 5'; sleep 0.3"
    reply, _ = await host.run(orphan, pid_file=file)
    assert reply.sandbox is not None
    assert await asyncio.wait_for(reply.sandbox.end, 5) == 5


async def test_one_that_its_own_command_reaped_is_not_taken_for_alive(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    reply, _ = await host.run(f"sh -c 'exit 5' & echo $! > {file}; wait; exit 0", pid_file=file)
    assert reply.sandbox is not None
    assert await asyncio.wait_for(reply.sandbox.end, 5) == -signal.SIGKILL


async def test_a_late_command_is_killed_with_all_that_it_started(host: Host) -> None:
    with pytest.raises(RunscHung):
        await host.run("sleep 100 & sleep 100", timeout_s=0.2)
    assert await until_empty(host) == []
    assert (await host.run("exit 3"))[0].code == 3


async def test_a_command_whose_caller_was_cancelled_is_killed(host: Host) -> None:
    task = asyncio.create_task(host.run("sleep 100"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await until_empty(host) == []


async def test_hanging_up_ends_everything(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    reply, _ = await host.run("trap '' TERM; " + LEAVE_ONE.format(seconds=100, file=file), pid_file=file)
    assert reply.sandbox is not None
    waiting = asyncio.create_task(host.run("sleep 100"))
    await asyncio.sleep(0.05)
    assert await asyncio.to_thread(host.close) == 0
    assert await asyncio.wait_for(reply.sandbox.end, 1) == -signal.SIGKILL
    with pytest.raises(ReaperLost):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(reply.sandbox.pid, 0)


async def test_a_reaper_that_is_killed_is_noticed_by_everyone_who_waits(host: Host) -> None:
    waiting = asyncio.create_task(host.run("sleep 100"))
    await asyncio.sleep(0.05)
    left = await asyncio.to_thread(host.children)
    host.process.kill()
    with pytest.raises(ReaperLost):
        await asyncio.wait_for(waiting, 5)
    assert not host.channel.alive
    with pytest.raises(ReaperLost):
        await host.run("true")
    host.process.wait(5)
    for pid in left:
        os.kill(pid, signal.SIGKILL)


async def test_a_storm_of_requests_loses_none(host: Host) -> None:
    replies = await asyncio.gather(*(host.run("exit 4", timeout_s=20) for _ in range(150)))
    assert {reply.code for reply, _ in replies} == {4}
