"""The databases of kept sandboxes: doors that are open while one runs, shut before it is saved, opened again after.

Called by `kept`. A sandbox that is saved holds no connection: its clients are told (57P01), what they left open is
rolled back, and after resume or fork they connect to the same names again. Nothing of a door is in what is saved.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from pathlib import Path

import structlog

from workers.errors import WorkerError
from workers.sandbox.databases import INSIDE, doors_to, variables
from workers.sandbox.errors import DatabaseUnreachable
from workers.sandbox.records import Record
from workers.sandbox.starter import Live

log = structlog.get_logger("sandpool.kept")

CONTEXT = "sandpool"
"""The namespace of our own code inside."""
INSIDE_S = 10.0
"""For our own code inside."""
_MODULE = "__import__('importlib').import_module('sandpool_runner.databases')"
_LET_GO = f"{_MODULE}.let_go()"


class KeptDoors:
    """One host's."""

    def __init__(self, doors: Path) -> None:
        """`doors`: where the pools of this node listen."""
        self._doors = doors
        self._open: dict[str, contextlib.AsyncExitStack] = {}

    async def open(self, live: Live, record: Record) -> None:
        """Open the doors of a sandbox that runs (again). Raises WorkerError: then none is open."""
        if not (record.databases or record.files) or live.id in self._open:
            return
        stack = contextlib.AsyncExitStack()
        try:
            if record.databases:
                await stack.enter_async_context(
                    doors_to(
                        record.databases,
                        live.sockets,
                        self._doors,
                        tenant=record.tenant,
                        job_id=live.id,
                        attempt_id=secrets.token_hex(4),
                        volume=record.volume,
                    )
                )
            await self._run(live, _enter(record))
        except BaseException as error:
            await stack.aclose()
            if isinstance(error, WorkerError) and not isinstance(error, DatabaseUnreachable):
                hint = error.hint or "another host may reach it; `sandpool doctor` checks this one"
                raise DatabaseUnreachable(error.message, hint=hint) from error
            raise
        self._open[live.id] = stack

    async def reach(self, live: Live, record: Record) -> None:
        """The same for one that goes on: while a pool is away, it goes on without, until next time."""
        try:
            await self.open(live, record)
        except DatabaseUnreachable as error:
            log.warning("a kept sandbox goes on without its databases", sandbox=live.id, error=str(error))

    async def shut(self, live: Live) -> None:
        """Before it is saved: its clients are told, and nothing of ours inside holds a connection."""
        stack = self._open.pop(live.id, None)
        if stack is not None:
            await stack.aclose()
            with contextlib.suppress(WorkerError):  # then the checkpoint says what is held
                await self._run(live, _LET_GO)

    async def drop(self, sandbox_id: str) -> None:
        """It ends, or has ended."""
        stack = self._open.pop(sandbox_id, None)
        if stack is not None:
            await asyncio.shield(stack.aclose())

    async def _run(self, live: Live, code: str) -> None:
        ended = await live.session.run_code(code, context=CONTEXT, name="sandpool", timeout_s=INSIDE_S)
        if ended.error is not None:
            raise DatabaseUnreachable(f"the sandbox cannot reach its databases ({ended.error.kind})")


def _enter(record: Record) -> str:
    """Variables and ports inside; once, for they are part of what is saved."""
    values = json.dumps(variables(record.databases, record.files, is_kept=True))
    names = json.dumps(list(record.databases))
    return (
        "import json, os\n"
        f"os.environ.update(json.loads({values!r}))\n"
        f"{_MODULE}.open_databases(json.loads({names!r}), {INSIDE!r})\n"
    )
