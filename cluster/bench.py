"""What the scheduler needs of the workers, whatever carries the calls: Ray (`cluster.dispatch`) or this very process
(`cluster.embedded`). Both pass the same suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.placement import Fleet, Node, SandboxNeed
from cluster.survey import Survey
from workers.attempt import Attempt, Statement
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.sql.policy.catalog import Catalog


class Bench(Protocol):
    """The workers of the whole cluster."""

    async def start(self) -> None:
        """Bring the pools up. A database that is down does not fail this: its jobs are retried until it is back."""

    def nodes(self) -> Sequence[Node] | Fleet:
        """The cluster as data, busy slots counted from the statements under way now."""

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        """One attempt. Raises WorkerLost when its worker died, or did not answer within the statement's time and a
        grace."""

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        """Ask the pool to stop the statement of this tenant's job.

        Its `run` then returns `Cancelled`, or whatever came first.
        """

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        """One attempt in a sandbox of this node's host. Raises WorkerLost as `run`."""

    async def cancel_task(self, node: str, tenant: str, job_id: str) -> None:
        """As `cancel`, for a job that runs in a sandbox."""

    def wants(self, wanted: Callable[[], Sequence[SandboxNeed]]) -> None:
        """Where the cluster can grow: ask this what wants room now, or has it."""

    async def hear_task(self, node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        """What a job in a sandbox has written so far, from these offsets on; nothing where it does not run. WorkerError
        or WorkerLost."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call this whenever a node has room, or other things, that it had not before, but for work that ended."""

    async def catalog(self, database: str) -> Catalog:
        """What the database holds now. Raises WorkerError or WorkerLost."""

    async def survey(self) -> Survey:
        """What every worker says of itself now. One that does not answer is left out."""

    async def close(self, drain_timeout_s: float) -> None:
        """Let running statements finish for this long, then cancel them and give up every connection; or leave workers
        that live in processes of their own to other schedulers."""
