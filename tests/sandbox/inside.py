"""Runs hostile Python inside a sandbox and hands back what came out. Used by the tests of this folder."""

from __future__ import annotations

import json
from typing import Any

from workers.sandbox.bundle import Command
from workers.sandbox.invocation import Finished
from workers.sandbox.sandboxes import Ended, Sandbox, Sandboxes

PRELUDE = """
import ctypes, errno, json, os, socket, stat, sys
def attempt(function, *arguments):
    "The name of the errno with which the call fails, or 'done'."
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "done"
def answer(value):
    print(json.dumps(value), flush=True)
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    "The name of the errno, or 'done'."
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""


class Inside:
    """One live sandbox."""

    def __init__(self, sandboxes: Sandboxes, sandbox: Sandbox) -> None:
        self.sandboxes = sandboxes
        self.sandbox = sandbox

    async def run(self, *argv: str, stdin: bytes = b"", timeout_s: float | None = None) -> Finished:
        return await self.sandboxes.execute(self.sandbox.id, Command(argv=argv), stdin=stdin, timeout_s=timeout_s)

    async def python(self, code: str, timeout_s: float | None = None) -> Finished:
        """Run code; it may use what PRELUDE defines."""
        return await self.run("/usr/bin/python3", "-c", PRELUDE + code, timeout_s=timeout_s)

    async def ask(self, code: str) -> Any:
        """What the code passes to `answer`. Fails the test when it ends otherwise."""
        finished = await self.python(code)
        assert finished.code == 0, finished
        return json.loads(finished.stdout)

    async def destroy(self) -> Ended:
        return await self.sandboxes.destroy(self.sandbox.id)
