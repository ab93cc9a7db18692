"""Publishing many messages without waiting for each confirm, yet never losing one: a window of unconfirmed messages.

Used by the session and by batches. What the broker did not confirm is published again until `timeout_s` passes without
any confirm; that is safe because a job id is an idempotency key.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import chain, repeat

from sandpool.errors import BrokerUnavailable
from sandpool.transport import Outgoing, Transport

_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Before publishing again: at once for a broken connection, then as for a full queue."""


class Pipeline:
    """Messages on their way to the broker, at most `window` of them unconfirmed."""

    def __init__(self, transport: Transport, *, window: int, timeout_s: float) -> None:
        self._transport = transport
        self._window = window
        self._timeout_s = timeout_s
        self._unconfirmed: deque[tuple[Outgoing, asyncio.Future[None]]] = deque()
        self._deadline_s = time.monotonic() + timeout_s

    async def send(self, message: Outgoing) -> None:
        """Publish one message, waiting while the window is full. Raises BrokerUnavailable, UsageError."""
        if not self._unconfirmed:
            self._deadline_s = time.monotonic() + self._timeout_s
        while len(self._unconfirmed) >= self._window:
            await self._confirm_first()
        await self._publish(message)

    async def flush(self) -> None:
        """Return when everything is confirmed. Raises as `send`."""
        while self._unconfirmed:
            await self._confirm_first()

    def abandon(self) -> None:
        """Wait for nothing more; what is under way may or may not arrive."""
        for _, confirm in self._unconfirmed:
            confirm.cancel()
        self._unconfirmed.clear()

    async def _confirm_first(self) -> None:
        message, confirm = self._unconfirmed.popleft()
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            try:
                async with asyncio.timeout(max(0.0, self._deadline_s - time.monotonic())):
                    await confirm
            except TimeoutError:
                raise BrokerUnavailable(f"no confirm from the broker within {self._timeout_s:g} s") from None
            except BrokerUnavailable as error:
                if time.monotonic() + pause_s >= self._deadline_s:
                    raise
                await asyncio.sleep(pause_s)
                try:
                    confirm = await self._transport.publish(message, self._left_s())
                except BrokerUnavailable:
                    raise error from None  # why it was not taken says more than that there is no connection now
            else:
                self._deadline_s = time.monotonic() + self._timeout_s
                return

    async def _publish(self, message: Outgoing) -> None:
        self._unconfirmed.append((message, await self._transport.publish(message, self._left_s())))

    def _left_s(self) -> float:
        return max(0.001, self._deadline_s - time.monotonic())
