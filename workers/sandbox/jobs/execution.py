"""Runs the code, program or statement of one task inside its sandbox, by the session with the runner there.

Called by `run` once the inputs lie in /in. Prepares the working folder first; never decides how it ended.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

from sandpool.outcome import Ending
from workers.sandbox import wire
from workers.sandbox.errors import SessionError
from workers.sandbox.jobs import programs
from workers.sandbox.jobs.collecting import OUT
from workers.sandbox.jobs.staging import read_code
from workers.sandbox.lease import Lease
from workers.sandbox.replies import Execution, OnOutput
from workers.sandbox.session import Session
from workers.sandbox.task import SandboxTask
from workers.volumes.store import Volume

PREPARE_S = 10.0
LONG_CODE = ".sandpool-code.py"
"""In /in, for code that no frame can hold; no input can have this name."""
MOST_CODE_BYTES = 64 << 20
OURS = "sandpool"
"""Context of what we run ourselves: the user's names stay the user's."""


async def execute(
    lease: Lease, task: SandboxTask, volumes: Mapping[str, Volume], on_output: OnOutput | None = None
) -> Execution:
    """How it went. `on_output` hears what the tenant's own code writes.

    Raises SessionError before the code began, SpecInvalid, Input errors, VolumeError.
    """
    session = lease.session
    await _prepare(session, task)
    match task.kind:
        case "command":
            env = {"SANDPOOL_OUT": OUT, **task.env}
            return await session.run_command(
                task.argv, cwd=OUT, env=env, stdin=task.stdin, timeout_s=task.timeout_s, on_output=on_output
            )
        case "code":
            code = await _code(lease, task, volumes)
            return await session.run_code(code, name=task.name, timeout_s=task.timeout_s, on_output=on_output)
        case "transform":
            return await _transform(session, task, on_output)
        case "query" | "catalog":
            code = programs.query(task)
            return await session.run_code(code, context=OURS, name="query.py", timeout_s=task.timeout_s)


async def _prepare(session: Session, task: SandboxTask) -> None:
    """The working folder and the environment, which a sandbox restored from a snapshot cannot have got at its start."""
    done = await session.run_code(programs.prepare(OUT, task.env), context=OURS, name="prepare.py", timeout_s=PREPARE_S)
    if done.ending is not Ending.Succeeded:
        raise SessionError("the sandbox could not be prepared", detail=done.error.traceback if done.error else "")


async def _code(lease: Lease, task: SandboxTask, volumes: Mapping[str, Volume]) -> str:
    if task.code_file is None:
        return task.code
    content = await read_code(task.code_file, volumes, MOST_CODE_BYTES)
    if len(content) <= wire.MAX_PAYLOAD_BYTES:
        return content.decode("utf-8", "surrogateescape")
    await asyncio.to_thread(_put, lease.inbox / LONG_CODE, content)
    return programs.run_file(f"/in/{LONG_CODE}", task.name)


async def _transform(session: Session, task: SandboxTask, on_output: OnOutput | None) -> Execution:
    """Our own code before and after it, in the time limit of all together; the first that fails is how it went."""
    deadline_s = time.monotonic() + task.timeout_s
    execution = await session.run_code(programs.before_transform(), name="before.py", timeout_s=task.timeout_s)
    if execution.ending is not Ending.Succeeded:
        return execution
    execution = await session.run_code(task.code, name=task.name, timeout_s=_left(deadline_s), on_output=on_output)
    if execution.ending is not Ending.Succeeded or not session.usable:
        return execution
    after = await session.run_code(programs.after_transform(task), name="after.py", timeout_s=_left(deadline_s))
    return execution if after.ending is Ending.Succeeded else after


def _left(deadline_s: float) -> float:
    return max(0.1, deadline_s - time.monotonic())


def _put(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)
