"""A result backend for taskiq over RabbitMQ: the worker publishes each result to the submitter's reply queue.

taskiq ships none for RabbitMQ. Its documented way (`taskiq-redis` and polling) needs another server and answers a
poll every 0.2 s by default; this one, written by its guide to custom result backends, answers at once and costs less,
so that taskiq is compared at its best. `benchmarks.latency` measures the documented way as well, where Redis is
installed.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import aio_pika
from taskiq import AsyncResultBackend, TaskiqResult
from taskiq.serializers import JSONSerializer

REPLY_LABEL = "reply_to"


class ReplyQueueResults(AsyncResultBackend[Any]):
    """Both ends: in a worker only `set_result` is called, in the submitter only the rest."""

    def __init__(self, url: str) -> None:
        self.queue = f"benchmark.taskiq.reply.{uuid.uuid4().hex}"
        self._url = url
        self._serializer = JSONSerializer()
        self._futures: dict[str, asyncio.Future[TaskiqResult[Any]]] = {}
        self._connection: aio_pika.abc.AbstractRobustConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None

    async def startup(self) -> None:
        self._connection = await aio_pika.connect_robust(self._url)
        # Replies are not confirmed, as Celery's are not: the job's own message is acked after this.
        self._channel = await self._connection.channel(publisher_confirms=False)

    async def listen(self) -> None:
        """Become the submitter's end."""
        assert self._channel is not None
        queue = await self._channel.declare_queue(self.queue, exclusive=True)
        await queue.consume(self._on_reply, no_ack=True)

    async def shutdown(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        assert self._channel is not None
        reply_to = result.labels[REPLY_LABEL]
        message = aio_pika.Message(self._serializer.dumpb(result.model_dump(mode="json")), correlation_id=task_id)
        await self._channel.default_exchange.publish(message, routing_key=reply_to)

    async def is_result_ready(self, task_id: str) -> bool:
        return self.expect(task_id).done()

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:  # noqa: ARG002
        return await self._futures.pop(task_id)

    def expect(self, task_id: str) -> asyncio.Future[TaskiqResult[Any]]:
        """What will hold the result; awaiting it is taskiq's `wait_result` without the polling."""
        if task_id not in self._futures:
            self._futures[task_id] = asyncio.get_running_loop().create_future()
        return self._futures[task_id]

    async def _on_reply(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        task_id = message.correlation_id
        assert task_id is not None
        future = self.expect(task_id)
        if not future.done():
            future.set_result(TaskiqResult[Any].model_validate(self._serializer.loadb(message.body)))
