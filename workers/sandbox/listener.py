"""The socket file at which the runner of one sandbox finds its host: bound, accepted from once, closed again.

Called by the host around every create and restore. It listens only while a runner is expected: a listening socket
would take the connection of a runner that should stay released, and no checkpoint is possible then.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from workers.sandbox.errors import RunnerAbsent, SandboxingUnavailable
from workers.sandbox.replies import SessionLimits
from workers.sandbox.session import DEFAULT_LIMITS, Session

SOCKET_NAME = "runner.sock"
LONGEST_PATH = 107
"""Of a Unix socket's address, in bytes."""


class Listener:
    def __init__(self, folder: Path) -> None:
        """`folder`: this sandbox's own, on the host; inside it is mounted (read-only) at /run/sandpool."""
        self._path = folder / SOCKET_NAME
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Listen from now on. Raises SandboxingUnavailable when the path is too long for a socket."""
        self.close()
        self._socket = await asyncio.to_thread(self._bind)

    async def accept(self, timeout_s: float, limits: SessionLimits = DEFAULT_LIMITS) -> Session:
        """The session with the first runner that connects; nobody else can afterwards.

        Raises RunnerAbsent, RunnerLost, ProtocolBroken.
        """
        if self._socket is None:
            await self.open()
        assert self._socket is not None
        try:
            async with asyncio.timeout(timeout_s):
                connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        except TimeoutError as error:
            raise RunnerAbsent(f"no runner connected within {timeout_s:g} s") from error
        finally:
            self.close()
        return await Session.open(connection, limits)

    def close(self) -> None:
        """Connecting fails from now on; the file stays until the next `open`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bind(self) -> socket.socket:
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            hint = "use a shorter folder for sandboxes"
            raise SandboxingUnavailable(f"a socket's path has at most {LONGEST_PATH} bytes", hint=hint)
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        listening.bind(str(self._path))
        # The sandbox runs under a user of its own; who may come this far is decided by the folder above.
        self._path.chmod(0o666)
        listening.listen(1)
        return listening
