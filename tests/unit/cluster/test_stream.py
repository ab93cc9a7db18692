"""Work and attempts over a real Unix socket: a stream that breaks loses nothing and repeats nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from ray.exceptions import RaySystemError

from cluster.errors import WorkerLost
from cluster.link import Calls, WorkerLink
from cluster.stream import Stream
from sandpool.outcome import Ending
from workers.attempt import Attempt, Statement, decode_statement, encode_statement
from workers.errors import DatabaseRefusesRole
from workers.frames import MAX_FRAME_BYTES
from workers.mailbox import Mailbox
from workers.stream import FOLDER_PREFIX, Streams, sweep


def statement(name: str, timeout_s: float = 20.0) -> Statement:
    return Statement(
        tenant="acme",
        job_id=name,
        attempt_id=f"1-{name}",
        digest="d",
        sql="select 1",
        timeout_s=timeout_s,
        max_rows=1,
        max_bytes=1,
        volume="results",
    )


Link = WorkerLink[Statement]


class Method:
    """`actor.method.remote(...)`."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.remote = function


class Worker:
    """A worker actor without Ray: a mailbox, its streams, and what can be made to happen to it."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.inline = b""
        self.opened = 0
        self.restart()
        self.listen, self.cancel = Method(self._listen), Method(self._cancel)
        self.submit, self.collect = Method(self._submit), Method(self._collect)
        self.trouble: Exception | None = None

    def restart(self) -> None:
        """As Ray does: another mailbox of another epoch, nothing kept."""
        self.box = Mailbox(decode_statement, self._run)
        self.streams = Streams(self.box)

    def hang_up(self) -> None:
        """The connection breaks, the worker lives on."""
        assert self.streams._peer is not None
        self.streams._peer.end()

    async def _run(self, work: Statement) -> Attempt:
        self.started.append(work.job_id)
        await self.gate.wait()
        return Attempt(job_id=work.job_id, attempt_id=work.attempt_id, ending=Ending.Succeeded, inline=self.inline)

    async def _listen(self) -> str:
        self.opened += 1
        if self.trouble is not None:
            raise self.trouble
        return await self.streams.listen()

    async def _cancel(self, job_id: str, tenant: str) -> bool:
        return False

    async def _submit(self, letters: list[bytes]) -> None:
        self.box.submit(letters)

    async def _collect(self, timeout_s: float, epoch: str, received: int, linger_s: float) -> Any:
        return await self.box.collect(timeout_s, epoch, received, linger_s)


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AsyncIterator[Worker]:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    made = Worker()
    yield made
    await made.streams.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where sockets lie. A short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        yield Path(name)


@pytest.fixture
async def link(worker: Worker, request: pytest.FixtureRequest) -> AsyncIterator[Link]:
    """Parametrised with what the worker raises from the start, where a test wants that."""
    worker.trouble = getattr(request, "param", None)
    made = Link(worker, encode_statement, slots=8, grace_s=5.0, near=True)
    yield made
    made._collector.cancel()
    made._drop_way()


def carried(cause: Exception) -> Exception:
    """As Ray carries what an actor raised."""
    error = RaySystemError("carries")
    error.cause = cause  # type: ignore[attr-defined]
    return error


async def test_a_thousand_jobs_come_back_over_one_stream(worker: Worker, link: Link) -> None:
    worker.inline = b"x" * 5000  # more than a socket's buffer holds: the writer has to wait for the reader
    attempts = await asyncio.gather(*(link.run(statement(f"j{n}")) for n in range(1000)))
    assert [attempt.job_id for attempt in attempts] == [f"j{n}" for n in range(1000)]
    assert worker.opened == 1 and len(worker.started) == 1000
    assert all(attempt.inline == worker.inline for attempt in attempts)


def test_it_works_on_the_loop_that_the_actors_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    async def main() -> None:
        worker = Worker()
        link = WorkerLink(worker, encode_statement, slots=8, grace_s=5.0, near=True)
        attempts = await asyncio.gather(*(link.run(statement(f"j{n}")) for n in range(50)))
        assert {attempt.ending for attempt in attempts} == {Ending.Succeeded}
        assert link._near and isinstance(link._way, Stream)
        link._collector.cancel()
        link._drop_way()
        await worker.streams.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_a_stream_that_breaks_loses_nothing_and_runs_nothing_twice(worker: Worker, link: Link) -> None:
    worker.gate.clear()
    running = [asyncio.create_task(link.run(statement(f"j{n}"))) for n in range(20)]
    await until(lambda: len(worker.started) == 20)
    worker.hang_up()
    running += [asyncio.create_task(link.run(statement(f"k{n}"))) for n in range(20)]
    await until(lambda: worker.opened == 2)
    worker.gate.set()
    attempts = await asyncio.gather(*running)
    assert {attempt.ending for attempt in attempts} == {Ending.Succeeded}
    assert len(worker.started) == len(set(worker.started)) == 40


async def test_a_worker_whose_stream_broke_does_not_answer_until_the_next_one_is_open(
    worker: Worker, link: Link
) -> None:
    """Most likely it died. What would be placed there meanwhile would be lost for nothing."""
    await link.run(statement("before"))
    said: list[bool] = []
    link.on_answers = lambda: said.append(link.answers)
    worker.trouble = RaySystemError("it is started anew")
    worker.hang_up()
    await until(lambda: not link.answers)
    worker.trouble = None
    await until(lambda: link.answers)
    assert said == [False, True]
    assert (await link.run(statement("after"))).ending == "Succeeded"


async def test_work_that_no_stream_has_carried_yet_is_not_forgotten_when_the_next_one_breaks_at_once(
    worker: Worker, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.gate.clear()
    first = asyncio.create_task(link.run(statement("first")))
    await until(lambda: len(worker.started) == 1)
    send, broken = Stream.submit, [ConnectionResetError("broke again")]

    async def submit(stream: Stream, letters: list[bytes]) -> None:
        if broken:
            raise broken.pop()
        await send(stream, letters)

    monkeypatch.setattr(Stream, "submit", submit)
    link._drop_way()
    second = asyncio.create_task(link.run(statement("second")))
    worker.gate.set()
    async with asyncio.timeout(5):
        assert {(await each).ending for each in (first, second)} == {Ending.Succeeded}


async def test_work_that_a_broken_stream_has_not_carried_travels_by_calls_where_no_other_can_be_opened(
    worker: Worker, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    await link.run(statement("before"))

    async def lose(stream: Stream, letters: list[bytes]) -> None:
        """It breaks, and what it was given is nowhere."""
        worker.hang_up()

    async def refuse(path: str, epoch: str, received: int) -> Stream:
        raise ConnectionRefusedError

    monkeypatch.setattr(Stream, "submit", lose)
    monkeypatch.setattr(Stream, "open", refuse)
    async with asyncio.timeout(5):
        assert (await link.run(statement("work"))).ending is Ending.Succeeded


async def test_a_call_that_hangs_because_its_actor_died_is_made_again(
    worker: Worker, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.link.LISTEN_TIMEOUT_S", 0.1)
    await link.run(statement("before"))
    answering = worker.listen

    async def hang() -> None:
        worker.listen = answering
        await asyncio.Event().wait()

    worker.listen = Method(hang)
    worker.hang_up()
    worker.restart()
    async with asyncio.timeout(10):
        while (await asyncio.gather(link.run(statement("after")), return_exceptions=True))[0].__class__ is WorkerLost:
            await asyncio.sleep(0.05)
    assert worker.opened == 2


async def test_an_attempt_that_ended_while_no_stream_was_there_comes_with_the_next(worker: Worker, link: Link) -> None:
    worker.gate.clear()
    running = asyncio.create_task(link.run(statement("j")))
    await until(lambda: bool(worker.started))
    worker.hang_up()
    worker.gate.set()
    assert (await running).ending is Ending.Succeeded
    assert worker.started == ["j"]


async def test_what_is_received_is_forgotten_at_the_other_end(worker: Worker, link: Link) -> None:
    for number in range(3):
        await asyncio.gather(*(link.run(statement(f"{number}-{n}")) for n in range(100)))
    assert worker.box.uncollected <= 100


async def test_a_worker_that_is_restarted_loses_what_it_had_taken_and_takes_what_comes(
    worker: Worker, link: Link
) -> None:
    worker.gate.clear()
    running = asyncio.create_task(link.run(statement("before")))
    await until(lambda: bool(worker.started))
    old = worker.streams
    worker.restart()
    await old.close()
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(running, 5.0)
    worker.gate.set()
    assert (await link.run(statement("after"))).ending is Ending.Succeeded
    assert worker.started == ["before", "after"]


async def test_work_that_breaks_every_stream_is_lost_after_a_few(worker: Worker, link: Link) -> None:
    link._encode = lambda work: b"{" if work.job_id == "poison" else encode_statement(work)
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(link.run(statement("poison")), 5.0)
    assert (await link.run(statement("honest"))).ending is Ending.Succeeded


@pytest.mark.parametrize("link", [carried(DatabaseRefusesRole("may do too much: INSERT on t"))], indirect=True)
async def test_a_worker_that_cannot_open_says_why_for_each_piece_of_work(worker: Worker, link: Link) -> None:
    attempt = await link.run(statement("j"))
    assert attempt.error is not None and "INSERT on t" in attempt.error.message
    assert link.answers


@pytest.mark.parametrize("link", [carried(OSError(28, "No space left on device"))], indirect=True)
async def test_without_sockets_work_travels_by_calls(worker: Worker, link: Link) -> None:
    assert (await link.run(statement("j"))).ending is Ending.Succeeded
    assert isinstance(link._way, Calls)


async def test_work_cancelled_before_its_stream_is_open_never_runs(worker: Worker, link: Link) -> None:
    async with link._opening:
        running = asyncio.create_task(link.run(statement("j")))
        await asyncio.sleep(0.01)
        await link.cancel("acme", "j")
        assert (await running).ending is Ending.Cancelled
    assert (await link.run(statement("k"))).ending is Ending.Succeeded
    assert worker.started == ["k"]


async def test_a_silent_worker_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.stream.SILENT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen(1)
        monkeypatch.setattr("cluster.stream.CONNECT_TIMEOUT_S", 0.2)
        with pytest.raises(TimeoutError):
            await Stream.open(str(folder / "s"), "", 0)
    stream = Stream("e", 0)
    monkeypatch.setattr(stream.frames, "send", lambda *_: None)
    with pytest.raises(TimeoutError, match="silent"):
        for _ in range(4):
            assert (await stream.collect(0.05, "e", 0, 0.0))[2] == []


async def test_only_our_own_user_may_connect(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.stream.peer_uid", lambda connection: os.geteuid() + 1)
    path = await worker.streams.listen()
    monkeypatch.setattr("cluster.stream.CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(OSError):
        await Stream.open(path, "", 0)
    monkeypatch.undo()


async def test_a_worker_of_another_user_is_not_spoken_to(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.stream.peer_uid", lambda connection: os.geteuid() + 1)
    with pytest.raises(ConnectionRefusedError, match="another user"):
        await Stream.open(await worker.streams.listen(), "", 0)


async def test_a_socket_is_private_and_gone_once_it_is_connected(worker: Worker, folder: Path) -> None:
    path = Path(await worker.streams.listen())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    stream = await Stream.open(str(path), "", 0)
    await until(lambda: not list(folder.iterdir()))
    stream.close()


async def test_a_socket_that_nobody_connects_to_goes_with_its_worker(worker: Worker, folder: Path) -> None:
    await worker.streams.listen()
    await worker.streams.close()
    assert list(folder.iterdir()) == []


def test_sockets_of_killed_workers_are_swept_and_those_of_others_are_not(folder: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for name in (f"{dead.stdout.decode().strip()}-x", f"{os.getpid()}-y", "not-a-pid"):
        (folder / f"{FOLDER_PREFIX}{name}").mkdir()
    (folder / f"{FOLDER_PREFIX}{dead.stdout.decode().strip()}-link").symlink_to("/etc")
    assert sweep(folder) == 1
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    "data", [b"\x00\x00\x00\x00?", (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"W", b"\x00\x00\x00\x01H!"]
)
async def test_bytes_that_are_no_frames_end_the_stream_and_nothing_else(
    worker: Worker, link: Link, data: bytes
) -> None:
    path = await worker.streams.listen()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    assert await asyncio.wait_for(reader.read(), 5.0) == b""
    writer.close()
    assert (await link.run(statement("j"))).ending is Ending.Succeeded


async def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)
