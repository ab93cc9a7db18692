"""The other schedulers of this cluster, asked about one job: Ray finds them by their names.

Called by the control room with what a tenant asked and this scheduler cannot answer, for the broker hands a control
call to any of them. One that is away holds no job: its messages are with the broker again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ray
import structlog
from ray.exceptions import RayError

from sandpool import wire
from sandpool.outcome import Outcome

log = structlog.get_logger("sandpool.peers")

ANSWER_S = 5.0
STOP_S = 65.0
"""A call that cancels waits until the job has ended (`cluster.control.LONGEST_STOP_S`)."""


class Peers:
    """The schedulers with these names."""

    def __init__(self, names: Sequence[str], namespace: str) -> None:
        self._names = tuple(names)
        self._namespace = namespace

    async def __call__(self, tenant: str, call: wire.ControlCall) -> list[Outcome | wire.JobStatus]:
        """What those say that know something."""
        timeout_s = STOP_S if call.action == "cancel" else ANSWER_S
        answers = await asyncio.gather(
            *(self._ask(name, tenant, wire.encode_control(call), timeout_s) for name in self._names)
        )
        return [wire.decode_reply(answer) for answer in answers if answer]

    async def _ask(self, name: str, tenant: str, call: bytes, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                actor: Any = await asyncio.to_thread(ray.get_actor, name, self._namespace)
                answer: bytes = await actor.answer.remote(tenant, call)
                return answer
        except (RayError, ValueError, TimeoutError) as error:
            log.warning("another scheduler does not answer", scheduler=name, error=type(error).__name__)
            return b""


def encode_answer(answer: Outcome | wire.JobStatus | None) -> bytes:
    """As `Peers` reads it; empty where there is nothing to say."""
    if answer is None:
        return b""
    return wire.encode_outcome(answer) if isinstance(answer, Outcome) else wire.encode_status(answer)
