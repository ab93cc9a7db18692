"""Terminals, streamed input, large files and watches through a runner that is a plain process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandpool.outcome import Ending
from tests.sandbox.test_runner_code import folder, runner, session
from tests.support.screen import Screen
from workers.sandbox.errors import FileRefused, RunnerLost, SessionBusy, SpecInvalid
from workers.sandbox.interaction import Terminal
from workers.sandbox.session import Session
from workers.sandbox.watch import Watch
from workers.sandbox.wire import CHUNK_BYTES

__all__ = ["folder", "runner", "session"]


async def test_a_terminal_has_its_size_takes_what_is_typed_and_can_be_resized(session: Session) -> None:
    screen = Screen()
    script = "trap 'stty size' WINCH; tty; stty size; read x; echo got-$x; while :; do read y; done"
    async with session.open_command(
        ["/bin/sh", "-c", script], pty=Terminal(rows=33, columns=101), on_output=screen.listen
    ) as command:
        await screen.until(b"33 101")
        assert b"/dev/pts/" in screen.shown
        assert await command.write("Grüße\n".encode())
        await screen.until("got-Grüße".encode())
        await command.resize(Terminal(rows=40, columns=120))
        await screen.until(b"40 120")
        await command.write(b"\x03")
        execution = await command.wait()
    assert (execution.ending, execution.code) == (Ending.Failed, -2)
    assert not await command.write(b"nobody reads this")


async def test_the_end_of_the_input_ends_a_program_on_a_terminal(session: Session) -> None:
    execution = await session.run_command(["/bin/cat"], pty=Terminal(), stdin=b"typed\n")
    assert (execution.ending, execution.stdout) == (Ending.Succeeded, b"typed\r\ntyped\r\n")
    assert (await session.run_command(["/nowhere"], pty=Terminal())).code == 127
    with pytest.raises(SpecInvalid):
        Terminal(rows=0)


async def test_a_terminal_that_nobody_feeds_ends_at_its_deadline(session: Session) -> None:
    execution = await session.run_command(["/bin/sh", "-c", "sleep 61.4"], pty=Terminal(), timeout_s=0.3)
    assert (execution.ending, execution.code, session.usable) == (Ending.TimedOut, -9, True)


async def test_input_is_asked_for_as_it_is_taken(session: Session) -> None:
    asked = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(40):
            asked += 1
            yield b"x" * 100_000

    slow = await session.run_command(["/bin/sh", "-c", "sleep 0.3; wc -c"], stdin=source())
    assert slow.stdout.strip() == b"4000000"
    asked = 0
    deaf = await session.run_command(["/bin/sh", "-c", "exec <&-; sleep 0.5"], stdin=source())
    assert (deaf.code, asked < 5) == (0, True)


async def test_an_error_of_the_source_of_input_ends_the_command_and_goes_to_the_caller(session: Session) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("source")

    with pytest.raises(KeyError):
        await session.run_command(["/bin/cat"], stdin=source())
    assert (await session.run_command(["/bin/echo", "on"])).stdout == b"on\n"


async def test_leaving_an_open_command_kills_it(session: Session) -> None:
    async with session.open_command(["/bin/sh", "-c", "echo $$; exec sleep 61.5"]) as command:
        await command.signal(18)
        with pytest.raises(SessionBusy):
            await session.release()
    alive = "for i in $(seq 100); do pgrep -f '^sleep 61.5' >/dev/null || exit 0; sleep 0.05; done; exit 1"
    assert (await session.run_command(["/bin/sh", "-c", alive])).code == 0
    assert not session.busy


async def test_a_large_file_goes_in_and_out_in_pieces(session: Session, tmp_path: Path) -> None:
    piece = os.urandom(CHUNK_BYTES - 7)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield piece

    assert await session.write_file("deep/er/large", source()) == 40 * len(piece)
    sizes = [len(part) async for part in session.stream_file("deep/er/large")]
    assert (sum(sizes), max(sizes)) == (40 * len(piece), CHUNK_BYTES)
    assert (tmp_path / "deep/er/large").read_bytes() == piece * 40
    with pytest.raises(FileRefused) as refused:
        await session.write_file("deep/er/large/below", b"x")
    assert refused.value.reason in ("ENOTDIR", "EEXIST")


async def test_names_that_are_no_unicode_are_listed_once_each(session: Session, tmp_path: Path) -> None:
    for number in range(700):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/%03d\xff" % number))).touch()
    found = await session.list_files()
    assert [entry.name for entry in found] == [f"{number:03}?" for number in range(700)]


async def seen(watch: Watch, count: int) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    async with asyncio.timeout(10):
        async for change in watch:
            found.add((change.kind, change.path))
            if len(found) == count:
                break
    return found


async def test_changes_of_a_folder_are_told(session: Session, tmp_path: Path) -> None:
    async with session.watch(".") as watch:
        (tmp_path / "a").write_text("x")
        assert await seen(watch, 2) == {("created", "a"), ("changed", "a")}
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b").unlink()
        assert await seen(watch, 3) == {("deleted", "a"), ("created", "b"), ("deleted", "b")}
    async with session.watch(".", recursive=True) as watch:
        (tmp_path / "x/y").mkdir(parents=True)
        assert await seen(watch, 2) == {("created", "x"), ("created", "x/y")}
        (tmp_path / "x/y/z").touch()
        assert ("created", "x/y/z") in await seen(watch, 2)
    assert not session.busy


async def test_what_cannot_be_watched_is_refused_and_what_goes_ends_the_watch(session: Session, tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as refused:
        async with session.watch("absent"):
            pass
    assert refused.value.reason == "ENOENT"
    (tmp_path / "folder").mkdir()
    async with session.watch("folder") as watch:
        (tmp_path / "folder").rmdir()
        async with asyncio.timeout(10):
            assert [(change.kind, change.path) async for change in watch] == [("deleted", "")]
    for number in range(300):
        (tmp_path / f"d{number}").mkdir()
    with pytest.raises(FileRefused) as refused:
        async with session.watch(".", recursive=True):
            pass
    assert refused.value.reason == "ENOSPC"


async def test_a_flood_of_changes_is_cut_and_said_to_be_lost(session: Session) -> None:
    code = "for i in range(3000):\n with open(f'flood{i}', 'w'): pass"
    async with session.watch(".") as watch:
        await session.run_code(code)
        kinds = set()
        async with asyncio.timeout(10):
            async for change in watch:
                kinds.add(change.kind)
                if change.kind == "lost":
                    break
    assert kinds <= {"created", "changed", "lost"}
    assert await session.run_code("1")


async def test_a_watch_ends_with_its_session(session: Session) -> None:
    async with session.watch(".") as watch:
        closing = asyncio.create_task(session.close())
        with pytest.raises(RunnerLost):
            async for _ in watch:
                pass
        await closing
