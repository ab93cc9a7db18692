"""Commands and files through a runner that is a plain process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sandpool.outcome import Ending
from tests.sandbox.test_runner_code import LIMITS, folder, runner, session
from workers.sandbox.errors import FileRefused, SpecInvalid
from workers.sandbox.session import Session

__all__ = ["folder", "runner", "session"]


async def test_a_command_has_its_folder_environment_input_and_status(session: Session, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    script = "pwd; echo $A; cat; echo no >&2; exit 7"
    small = await session.run_command(["/bin/sh", "-c", script], cwd="below", env={"A": "ä"}, stdin=b"in")
    assert small.stdout == f"{tmp_path}/below\nä\nin".encode()
    assert (small.stderr, small.code, small.ending) == (b"no\n", 7, Ending.Failed)


async def test_a_large_input_reaches_the_command_whole(session: Session) -> None:
    execution = await session.run_command(["/usr/bin/wc", "-c"], stdin=b"x" * 3_000_000)
    assert (execution.stdout.strip(), execution.ending) == (b"3000000", Ending.Succeeded)
    deaf = await session.run_command(["/bin/true"], stdin=b"x" * 3_000_000)
    assert (deaf.code, deaf.ending) == (0, Ending.Succeeded)


async def test_a_program_that_cannot_be_started_ends_with_127(session: Session) -> None:
    execution = await session.run_command(["/nowhere/at/all"])
    assert (execution.code, execution.ending) == (127, Ending.Failed)
    assert b"No such file" in execution.stderr
    with pytest.raises(SpecInvalid):
        await session.run_command(["/bin/echo", "x" * 70_000])


async def test_a_command_past_its_deadline_is_killed_with_its_children(session: Session) -> None:
    execution = await session.run_command(["/bin/sh", "-c", "sleep 61.3 & sleep 61.3"], timeout_s=0.2)
    assert (execution.ending, execution.code) == (Ending.TimedOut, -9)
    assert session.usable


async def test_a_command_that_floods_ends_as_output_capped_beside_running_code(session: Session) -> None:
    code = asyncio.create_task(session.run_code("import time\ntime.sleep(0.3)\n'done'"))
    execution = await session.run_command(["/usr/bin/yes"])
    assert execution.ending is Ending.OutputCapped
    assert len(execution.stdout) == LIMITS.output_bytes
    assert (await code).text == "'done'"


async def test_a_status_by_signal_is_negative(session: Session) -> None:
    execution = await session.run_command(["/bin/sh", "-c", "kill -15 $$"])
    assert (execution.code, execution.ending) == (-15, Ending.Failed)


async def test_files_go_in_and_come_out_as_they_are(session: Session, tmp_path: Path) -> None:
    content = os.urandom(700_000)
    await session.write_file("data.bin", content, mode=0o600)
    assert (tmp_path / "data.bin").read_bytes() == content
    assert await session.read_file("data.bin") == content
    await session.write_file("data.bin", b"")
    assert await session.read_file("data.bin") == b""
    entry = await session.stat("data.bin")
    assert (entry.name, entry.kind, entry.size_bytes, entry.mode) == ("data.bin", "file", 0, 0o600)


async def test_a_folder_is_listed_in_pages_and_up_to_a_limit(session: Session, tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / f"f{number:04}").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = await session.list_files()
    assert [entry.name for entry in found] == [*(f"f{number:04}" for number in range(1100)), "link"]
    assert found[-1].kind == "link"
    assert len(await session.list_files(most=600)) == 600


@pytest.mark.parametrize(
    ("path", "reason"), [("absent", "ENOENT"), ("/proc", "EISDIR"), ("pipe", "EINVAL"), ("/dev/zero", "EINVAL")]
)
async def test_what_is_no_regular_file_is_refused(session: Session, tmp_path: Path, path: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileRefused) as refused:
        await session.read_file(path)
    assert refused.value.reason == reason


async def test_a_file_that_is_too_large_is_not_read(session: Session, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileRefused) as refused:
        await session.read_file("sparse", max_bytes=1000)
    assert refused.value.reason == "EFBIG"
    with pytest.raises(SpecInvalid):
        await session.read_file("a\0b")


async def test_a_command_ends_when_it_ends_whatever_it_leaves_behind(session: Session, tmp_path: Path) -> None:
    script = "sleep 61.6 & echo $! > left; echo x"
    execution = await session.run_command(["/bin/sh", "-c", script], stdin=b"unread", timeout_s=8)
    left = int((tmp_path / "left").read_text())
    try:
        assert (execution.ending, execution.code, execution.stdout) == (Ending.Succeeded, 0, b"x\n")
        assert execution.usage.wall_s < 4
        os.kill(left, 0)  # it goes on
    finally:
        os.kill(left, 9)
