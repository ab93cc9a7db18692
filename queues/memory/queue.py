"""One queue of the in-process broker with the rules of a quorum queue: prefetch, redelivery, limits, expiry.

Used by `queues.memory.broker`, which holds the lock around every call and owns routing. Knows no user, no exchange.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from queues.message import DEATHS_HEADER, DELIVERIES_HEADER, Message, count_of


@dataclass(slots=True, eq=False)
class Held:
    """A message inside a queue."""

    message: Message
    routing_key: str
    returns: int = 0
    expires_at_s: float | None = None
    fate: str = ""
    """Why its queue gave it up: `expired` or `delivery_limit`."""

    def as_delivered(self) -> Message:
        """The message with the header by which a quorum queue counts earlier deliveries."""
        if not self.returns:
            return self.message
        return replace(self.message, headers={**self.message.headers, DELIVERIES_HEADER: self.returns})

    def as_dead(self, queue: str) -> Message:
        """The message with the header in which a broker tells where and why it was given up, the latest first."""
        told = self.message.headers.get(DEATHS_HEADER)
        earlier = [death for death in told if isinstance(death, dict)] if isinstance(told, list) else []
        same = [death for death in earlier if (death.get("queue"), death.get("reason")) == (queue, self.fate)]
        count = 1 + sum(count_of(death.get("count")) for death in same)
        death = {"queue": queue, "reason": self.fate, "count": count, "time": datetime.now(UTC)}
        others = [death for death in earlier if death not in same]
        return replace(self.message, headers={**self.message.headers, DEATHS_HEADER: [death, *others]})


@dataclass(slots=True, eq=False)
class Consumer:
    """Who takes from a queue, at most `prefetch` unsettled at once, called on its own event loop."""

    loop: asyncio.AbstractEventLoop
    on_message: Callable[[Held], None]
    on_cancel: Callable[[], None]
    prefetch: int
    unsettled: dict[int, Held] = field(default_factory=dict)
    live: bool = True


class MemoryQueue:
    """Messages that wait, and the consumers they go to in turn."""

    def __init__(self, name: str, arguments: Mapping[str, str | int], second_s: float = 1.0) -> None:
        self.name = name
        self.arguments = dict(arguments)
        self.ready: deque[Held] = deque()
        self.consumers: deque[Consumer] = deque()
        self.given_up: deque[Held] = deque()
        """Expired or over the delivery limit, on their way to the dead-letter exchange."""
        self.timer_runs = False
        self._size_bytes = 0
        self._max_length = int(arguments.get("x-max-length", 1_000_000))
        self._max_bytes = int(arguments.get("x-max-length-bytes", 1 << 62))
        limit = arguments.get("x-delivery-limit")
        self._delivery_limit = None if limit is None else int(limit)
        ttl_ms = arguments.get("x-message-ttl")
        self._ttl_s = None if ttl_ms is None else int(ttl_ms) / 1000 * second_s
        self.dead_letter_exchange = str(arguments.get("x-dead-letter-exchange", ""))

    @property
    def is_full(self) -> bool:
        return len(self.ready) >= self._max_length or self._size_bytes >= self._max_bytes

    def put(self, held: Held) -> None:
        """Append one message; the caller has checked `is_full`."""
        if self._ttl_s is not None:
            held.expires_at_s = time.monotonic() + self._ttl_s
        self.ready.append(held)
        self._size_bytes += len(held.message.body)
        self.hand_out()

    def take(self) -> Held | None:
        """Remove and return the first message, as good as acknowledged."""
        if not self.ready:
            return None
        held = self.ready.popleft()
        self._size_bytes -= len(held.message.body)
        return held

    def hand_out(self) -> None:
        """Give waiting messages to consumers with room, in turn."""
        while self.ready:
            consumer = self._next_consumer()
            if consumer is None:
                return
            held = self.ready.popleft()
            self._size_bytes -= len(held.message.body)
            consumer.unsettled[id(held)] = held
            consumer.loop.call_soon_threadsafe(consumer.on_message, held)

    def settle(self, consumer: Consumer, held: Held) -> bool:
        """Forget one message that `consumer` holds; False when it does not hold it (any more)."""
        if consumer.unsettled.pop(id(held), None) is None:
            return False
        self.hand_out()
        return True

    def give_back(self, consumer: Consumer, held: Held) -> None:
        """Return a message that `consumer` holds to the front; over the delivery limit it is given up."""
        if consumer.unsettled.pop(id(held), None) is None:
            return
        held.returns += 1
        if self._delivery_limit is not None and held.returns > self._delivery_limit:
            held.fate = "delivery_limit"
            self.given_up.append(held)
        else:
            self.ready.appendleft(held)
            self._size_bytes += len(held.message.body)
        self.hand_out()

    def end(self, consumer: Consumer) -> None:
        """Hand this consumer nothing more; it keeps what it holds."""
        consumer.live = False
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def expires_in_s(self, now_s: float) -> float | None:
        """Seconds until the first message expires; None when none will."""
        moment_s = self.ready[0].expires_at_s if self.ready else None
        return None if moment_s is None else max(0.0, moment_s - now_s)

    def expire(self, now_s: float) -> None:
        """Give up the messages at the head whose time is over: like a quorum queue, only the head expires."""
        while self.expires_in_s(now_s) == 0.0:
            held = self.take()
            if held is not None:
                held.fate = "expired"
                self.given_up.append(held)

    def _next_consumer(self) -> Consumer | None:
        for _ in range(len(self.consumers)):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if consumer.live and len(consumer.unsettled) < consumer.prefetch and not consumer.loop.is_closed():
                return consumer
        return None
