"""The worker's end of a stream: work comes in and attempts go out over a Unix socket, without a call for each.

Opened by a worker actor for a scheduler on the same node (`cluster.stream` is the other end): a Ray call costs about a
millisecond of CPU and a small statement less. Ray stays the way to everything else, and to workers on other nodes. The
semantics are the mailbox's: numbers are acknowledged, an epoch ends with the actor, a repeated submission starts
nothing twice; so a stream that breaks loses nothing, and the next one goes on where it ended.

A socket is for one connection: it lies in a folder of its own (0700), takes one peer of our own user as the kernel
names it, and is removed as soon as that has connected or nobody came. Frames, by their kind:

    H  epoch, and from the scheduler how much of it was received: the first frame of either end
    W  one piece of work                     (to the worker)
    R  the number up to which attempts were received   (to the worker)
    A  number and attempt                    (to the scheduler)
    P  are you there? and the answer
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.frames import FrameProtocol, peer_uid
from workers.mailbox import Mailbox

ACCEPT_TIMEOUT_S = 10.0
FOLDER_PREFIX = "sp-stream-"
SOCKET = "s"
HELLO, WORK, RECEIVED, ATTEMPT, PING = b"H", b"W", b"R", b"A", b"P"
NUMBER = struct.Struct(">Q")


class Streams:
    """Every stream of one mailbox: the newest is the one that counts, an older one was lost by the scheduler."""

    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self._mailbox = mailbox
        self._accepting: set[asyncio.Task[None]] = set()
        self._peer: _Peer | None = None

    @property
    def connected(self) -> bool:
        """Whether a scheduler holds the other end now."""
        return self._peer is not None and self._peer.frames.is_open

    async def listen(self) -> str:
        """Path of a new socket that takes one connection within ACCEPT_TIMEOUT_S. Raises OSError."""
        listener, folder = await asyncio.to_thread(_bind)
        task = asyncio.get_running_loop().create_task(self._accept(listener, folder))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        await asyncio.sleep(0)  # a task that is cancelled before its first step would leave the folder behind
        return str(folder / SOCKET)

    async def close(self) -> None:
        """Hang up, and leave no socket behind."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._peer is not None:
            self._peer.end()

    async def _accept(self, listener: socket.socket, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                    while True:
                        connection, _ = await loop.sock_accept(listener)
                        if peer_uid(connection) == os.geteuid():
                            break
                        connection.close()
                if self._peer is not None:
                    self._peer.end()
                peer = self._peer = _Peer(self._mailbox)
                await loop.connect_accepted_socket(lambda: peer.frames, connection)
        finally:
            listener.close()
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


class _Peer:
    """One connected scheduler. Attempts are pushed as they end; what it did not acknowledge stays in the mailbox."""

    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self._mailbox = mailbox
        self.frames = FrameProtocol(self._on_frame, self._on_end)
        self._pushed = 0
        self._refilling: asyncio.Task[None] | None = None

    def end(self) -> None:
        self._mailbox.forget_listener(self._push)
        self.frames.end()

    def _on_frame(self, kind: bytes, body: bytes) -> None:
        if kind == WORK:
            self._mailbox.submit([body])
        elif kind == RECEIVED:
            self._mailbox.forget(self._mailbox.epoch, NUMBER.unpack(body)[0])
        elif kind == PING:
            self.frames.send(PING)
        elif kind == HELLO:
            epoch, received = body[NUMBER.size :].decode(), NUMBER.unpack_from(body)[0]
            self._pushed = received if epoch == self._mailbox.epoch else 0
            self._mailbox.forget(epoch, received)
            self.frames.send(HELLO, self._mailbox.epoch.encode())
            self._mailbox.listener = self._push
            self._push()
        else:
            raise ConnectionAbortedError(f"a frame of unknown kind {kind!r}")

    def _push(self) -> None:
        """Everything that ended and was not sent yet, as long as the other end reads it."""
        if not self.frames.is_open:
            return
        for number, data in self._mailbox.ended_after(self._pushed):
            if self.frames.is_full:
                if self._refilling is None:
                    self._refilling = asyncio.get_running_loop().create_task(self._push_on())
                return
            self.frames.send(ATTEMPT, NUMBER.pack(number) + data)
            self._pushed = number

    async def _push_on(self) -> None:
        await self.frames.room()
        self._refilling = None
        self._push()

    def _on_end(self, _: Exception | None) -> None:
        self._mailbox.forget_listener(self._push)


def _bind() -> tuple[socket.socket, Path]:
    """A listening socket in a new folder that only our user can enter; what dead workers left is removed first."""
    sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(folder / SOCKET))
        os.chmod(folder / SOCKET, 0o600)
        listener.listen(1)
    except BaseException:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return listener, folder


def sweep(parent: Path) -> int:
    """Remove the socket folders of our own user's dead processes; how many. One is only there if its worker was
    killed in the moment between the making of a socket and its connection."""
    swept = 0
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            pid = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
            facts = folder.lstat()
            ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if ours and pid.isdigit() and not Path("/proc", pid).exists():
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
    return swept
