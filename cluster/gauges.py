"""What has to be asked for: queue depths, lines, pools, hosts and GPUs, told to the metrics every few seconds.

Owned by `cluster.app.Conductor`, for as long as it is up. Asks the broker and the workers, decides nothing, and no
error of theirs ends it: what does not answer keeps its last value for a while and is then no longer told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from cluster import metrics
from cluster.bench import Bench
from cluster.metrics import Recorder
from cluster.survey import Survey
from queues.door import Door
from queues.errors import QueueError
from queues.topology import PARKED_PREFIX
from workers.sandbox.hosting import HostStatus

log = structlog.get_logger("sandpool.gauges")

LONGEST_LOOK_S = 60.0
STOP_DEADLINE_S = 2.0


class Gauges:
    """A background task with an owner: `start`, then `stop`."""

    def __init__(
        self,
        recorder: Recorder,
        door: Door,
        bench: Bench,
        lines: Callable[[], Mapping[str, int]],
        under_way: Callable[[], int],
        interval_s: float,
        *,
        shared: bool = True,
    ) -> None:
        """`shared`: also what is no scheduler's own, of which one of several tells."""
        self._shared = shared
        self._recorder = recorder
        self._door = door
        self._bench = bench
        self._lines = lines
        self._under_way = under_way
        self._interval_s = interval_s
        self._starts: dict[tuple[str, str], int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="gauges")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_DEADLINE_S)
            self._recorder.set(metrics.UP, 0)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LONGEST_LOOK_S):
                    await self.look()
            except (QueueError, TimeoutError) as error:
                log.warning("not all gauges could be read", error=str(error))
            except Exception:
                log.exception("unexpected error while reading gauges")
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Everything once. Raises QueueError when the broker is away; what the workers said is told by then."""
        self._recorder.set(metrics.UP, 1)
        self._recorder.set(metrics.UNDER_WAY, self._under_way())
        for line, count in self._lines().items():
            self._recorder.set(metrics.IN_LINE, count, line)
        if not self._shared:
            return
        self._tell_survey(await self._bench.survey())
        parked = 0
        for queue, count in (await self._door.depths()).items():
            if queue.startswith(PARKED_PREFIX):
                parked += count
            else:
                self._recorder.set(metrics.QUEUE, count, queue)
        self._recorder.set(metrics.QUEUE, parked, PARKED_PREFIX.rstrip("."))

    def _tell_survey(self, survey: Survey) -> None:
        for (node, database), pool in survey.pools.items():
            lent = pool.connections - pool.idle
            for state, count in (("idle", pool.idle), ("lent", lent), ("budget", pool.budget)):
                self._recorder.set(metrics.POOL, count, node, database, state)
            self._recorder.set(metrics.POOL_WAITING, pool.waiting, node, database)
            self._recorder.set(metrics.POOL_RUNNING, pool.running, node, database)
        for node, host in survey.hosts.items():
            self._tell_host(node, host)

    def _tell_host(self, node: str, host: HostStatus) -> None:
        spare = sum(host.warm.values())
        for state, count in (("used", host.sandboxes), ("warm", spare), ("paused", host.paused)):
            self._recorder.set(metrics.SANDBOXES, count, node, state)
        for state, size_bytes in (("all", host.memory_bytes), ("promised", host.reserved_bytes)):
            self._recorder.set(metrics.HOST_MEMORY, size_bytes, node, state)
        for state, cpus in (("all", host.cpus), ("promised", host.reserved_cpus)):
            self._recorder.set(metrics.HOST_CPUS, cpus, node, state)
        for how, total in host.handed_out.items():
            before = self._starts.get((node, how), 0)
            # A host that was restarted counts from zero again.
            self._recorder.add(metrics.STARTS, total - before if total >= before else total, node, how)
            self._starts[node, how] = total
        for status in host.gpus:
            uuid, gpu = status.gpu.uuid, status.gpu
            for state, size in (
                ("all", gpu.memory_bytes),
                ("promised", status.reserved_bytes),
                ("free", max(0, status.free_bytes)),
            ):
                self._recorder.set(metrics.GPU_MEMORY, size, node, uuid, state)
            self._recorder.set(metrics.GPU_HEALTHY, 0 if gpu.unhealthy else 1, node, uuid)
