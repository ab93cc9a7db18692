"""Programs of ours in processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from workers.child import start_child

ROOT = Path(__file__).parents[2]
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
ECHO = "import sys; sys.stdout.write(sys.stdin.readline().upper()); sys.stdout.flush(); sys.stdin.read(); sys.exit(3)"
NewLoop = Callable[[], asyncio.AbstractEventLoop]


@LOOPS
def test_a_child_hears_answers_and_is_gone_at_its_end(new_loop: NewLoop) -> None:
    async def act() -> None:
        child = await start_child(["-c", ECHO])
        child.stdin.write(b"hello\n")
        assert await child.reader.readline() == b"HELLO\n"
        assert child.returncode is None
        await child.end()
        assert child.returncode == -9
        assert not Path(f"/proc/{child.pid}").exists()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(act(), 20))


@LOOPS
def test_a_child_that_ends_by_itself_keeps_its_exit_status(new_loop: NewLoop) -> None:
    async def act() -> None:
        child = await start_child(["-c", "import sys; sys.exit(3)"])
        assert await child.reader.read() == b""
        await child.end(grace_s=20)
        assert child.returncode == 3
        await child.end()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(act(), 30))


@LOOPS
def test_no_descriptor_is_left_of_a_child(new_loop: NewLoop) -> None:
    async def act() -> None:
        await (await start_child(["-c", "input()"])).end()  # what the loop opens once and keeps
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await (await start_child(["-c", "input()"])).end()
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(act(), 20))


def test_a_program_that_does_not_exist_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(start_child([]))


def test_no_python_runs_between_the_fork_and_the_program() -> None:
    """On uvloop, as in every actor of Ray: what a library does there after a fork may crash each child for good."""
    program = (
        "import asyncio, os, uvloop\n"
        "from workers.child import start_child\n"
        "os.register_at_fork(after_in_child=os.abort)\n"
        "async def main():\n"
        "    child = await start_child(['-c', 'print(1)'])\n"
        "    print(await child.reader.read())\n"
        "    await child.end(grace_s=20)\n"
        "uvloop.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("b'1\\n'\n", 0), done.stderr
