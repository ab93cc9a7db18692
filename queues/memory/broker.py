"""The in-process broker: users and their permissions, exchanges, routing, dead letters, expiry.

Built by the embedded mode and by tests, shared by one `MemoryDoor` and any number of `MemoryTransport`s, also across
threads: one lock guards all state, and consumers are called on their own event loops. Nothing survives the process.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from queues.errors import AccessRefused, NotConfirmed, TopologyMismatch, Unroutable
from queues.memory.queue import Consumer, Held, MemoryQueue
from queues.message import Message
from queues.permissions import SERVICE, Permissions, tenant_permissions
from queues.topology import Limits, Topology, topology

SERVICE_USER = "sandpool"
_STUCK_DEAD_LETTER_S = 0.5


@dataclass(slots=True, eq=False)
class Connection:
    """One user's connection: its consumers, by queue."""

    user: str
    on_lost: Callable[[], None]
    consumers: list[tuple[MemoryQueue, Consumer]] = field(default_factory=list)
    live: bool = True


class MemoryBroker:
    """A broker with the whole topology and the service user in it; tenants are added by name.

    `second_s`: how long a second of a queue's time to live lasts; less than one where a test waits for delays.
    """

    def __init__(
        self, limits: Limits | None = None, service_user: str = SERVICE_USER, *, second_s: float = 1.0
    ) -> None:
        self.service_user = service_user
        self._second_s = second_s
        self.topology: Topology = topology(limits)
        self.lock = threading.RLock()
        self._users: dict[str, Permissions] = {service_user: SERVICE}
        self._kinds: dict[str, str] = {}
        self._bindings: dict[str, list[tuple[str, MemoryQueue]]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._connections: list[Connection] = []

    def add_tenant(self, name: str) -> None:
        """A user who may submit jobs. Raises ValueError for a name that cannot be a tenant."""
        with self.lock:
            self._users[name] = tenant_permissions(name)

    def declare_topology(self) -> None:
        """Create what is missing of the topology."""
        self.declare(self.topology)

    def declare(self, wanted: Topology) -> None:
        """Create what is missing of this."""
        with self.lock:
            for exchange in wanted.exchanges:
                self._kinds.setdefault(exchange.name, exchange.kind)
                self._bindings.setdefault(exchange.name, [])
            for queue in wanted.queues:
                self.declare_queue(self.service_user, queue.name, queue.arguments)
                self.bind(self.service_user, queue.name, queue.exchange, queue.routing_key)

    def declare_queue(self, user: str, name: str, arguments: Mapping[str, str | int]) -> None:
        """Create a queue. Raises AccessRefused, TopologyMismatch."""
        with self.lock:
            self._check(user, "configure", name)
            present = self._queues.setdefault(name, MemoryQueue(name, arguments, self._second_s))
            if present.arguments != dict(arguments):
                raise TopologyMismatch(f"queue {name} exists with other arguments: delete it or keep its arguments")

    def delete_queue(self, user: str, name: str) -> None:
        """Remove a queue with all it holds; its consumers are told."""
        with self.lock:
            self._check(user, "configure", name)
            queue = self._queues.pop(name, None)
            if queue is None:
                return
            for exchange, bound in self._bindings.items():
                self._bindings[exchange] = [pair for pair in bound if pair[1] is not queue]
            for consumer in queue.consumers:
                consumer.live = False
                consumer.unsettled.clear()
                consumer.loop.call_soon_threadsafe(consumer.on_cancel)

    def bind(self, user: str, queue: str, exchange: str, routing_key: str) -> None:
        """Route an exchange's messages with this key (topic: this pattern) to a queue."""
        with self.lock:
            self._check(user, "write", queue)
            self._check(user, "read", exchange)
            pair = (routing_key, self._queues[queue])
            if pair not in self._bindings[exchange]:
                self._bindings[exchange].append(pair)

    def connect(self, user: str, on_lost: Callable[[], None]) -> Connection:
        """Raises AccessRefused for an unknown user."""
        with self.lock:
            if user not in self._users:
                raise AccessRefused(f"user {user!r} is not known here")
            connection = Connection(user, on_lost)
            self._connections.append(connection)
            return connection

    def publish(self, user: str, exchange: str, routing_key: str, message: Message) -> None:
        """Route one message, all or nothing. Raises AccessRefused, Unroutable, NotConfirmed (a queue is full)."""
        with self.lock:
            self._check(user, "write", exchange or "amq.default")
            if message.user_id and message.user_id != user:
                raise AccessRefused(f"user_id is {message.user_id!r}, but this user is {user!r}")
            self._route(exchange, routing_key, message)

    def consume(self, connection: Connection, queue: str, consumer: Consumer) -> None:
        """Start handing a queue's messages to a consumer. Raises AccessRefused."""
        with self.lock:
            self._check(connection.user, "read", queue)
            target = self.queue(queue)
            target.consumers.append(consumer)
            connection.consumers.append((target, consumer))
            target.hand_out()

    def change_prefetch(self, queue: str, consumer: Consumer, prefetch: int) -> None:
        """At most `prefetch` unsettled messages from now on; what is out already stays out."""
        with self.lock:
            consumer.prefetch = prefetch
            self.queue(queue).hand_out()

    def stop_handing_out(self, queue: str, consumer: Consumer) -> None:
        """Give this consumer nothing more; it keeps what it holds."""
        with self.lock:
            self.queue(queue).end(consumer)

    def settle(self, queue: MemoryQueue, consumer: Consumer, held: Held) -> None:
        """Forget a message; nothing happens where the consumer does not hold it any more."""
        with self.lock:
            queue.settle(consumer, held)

    def give_back(self, queue: MemoryQueue, consumer: Consumer, held: Held) -> None:
        """Return one message to the front of its queue."""
        with self.lock:
            queue.give_back(consumer, held)
            self._dead_letter(queue)

    def queue(self, name: str) -> MemoryQueue:
        """A queue by name. Raises Unroutable when there is none."""
        try:
            return self._queues[name]
        except KeyError:
            raise Unroutable("", name) from None

    def take(self, user: str, queue: str) -> Message | None:
        """The first waiting message, removed; None when there is none. Raises AccessRefused."""
        with self.lock:
            self._check(user, "read", queue)
            held = self.queue(queue).take()
            return None if held is None else held.message

    def waiting(self, queue: str) -> int:
        """How many messages of a queue wait for a consumer."""
        with self.lock:
            return len(self.queue(queue).ready)

    def disconnect(self, connection: Connection) -> None:
        """End one connection: what it had not settled goes back to the front of its queues."""
        with self.lock:
            if not connection.live:
                return
            connection.live = False
            self._connections.remove(connection)
            for queue, consumer in connection.consumers:
                queue.end(consumer)
                for held in reversed(list(consumer.unsettled.values())):
                    queue.give_back(consumer, held)
                self._dead_letter(queue)

    def drop_connections(self) -> None:
        """What a network fault does: every connection ends, every owner is told and may connect again."""
        with self.lock:
            for connection in list(self._connections):
                self.disconnect(connection)
                connection.on_lost()

    def _route(self, exchange: str, routing_key: str, message: Message) -> None:
        if exchange:
            matches = _MATCHES[self._kinds[exchange]] if exchange in self._kinds else _never
            targets = {id(q): q for key, q in self._bindings.get(exchange, ()) if matches(key, routing_key)}
        else:
            targets = {0: self._queues[routing_key]} if routing_key in self._queues else {}
        if not targets:
            raise Unroutable(exchange, routing_key)
        for queue in targets.values():
            if queue.is_full:
                raise NotConfirmed(f"queue {queue.name} is full")
        for queue in targets.values():
            queue.put(Held(message, routing_key))
            self._arm(queue)

    def _tick(self, queue: MemoryQueue) -> None:
        with self.lock:
            queue.timer_runs = False
            queue.expire(time.monotonic())
            self._dead_letter(queue)

    def _dead_letter(self, queue: MemoryQueue) -> None:
        """Move what a queue gave up to its dead-letter exchange; what finds no room stays and is tried again."""
        while queue.given_up:
            held = queue.given_up[0]
            try:
                self._route(queue.dead_letter_exchange, held.routing_key, held.as_dead(queue.name))
            except (NotConfirmed, Unroutable):
                break
            queue.given_up.popleft()
        self._arm(queue)

    def _arm(self, queue: MemoryQueue) -> None:
        """One timer per queue. A thread, not a loop's timer: the loop of whoever published may be gone by then."""
        if queue.timer_runs:
            return
        due_s = _STUCK_DEAD_LETTER_S if queue.given_up else queue.expires_in_s(time.monotonic())
        if due_s is None:
            return
        queue.timer_runs = True
        timer = threading.Timer(due_s + 0.001, self._tick, (queue,))
        timer.daemon = True
        timer.start()

    def _check(self, user: str, right: str, resource: str) -> None:
        if not re.search(getattr(self._users[user], right), resource):
            raise AccessRefused(f"{right} access to {resource!r} refused for user {user!r}")


def topic_matches(pattern: str, key: str) -> bool:
    """AMQP topic rules: `*` is one word, `#` any number of words."""
    words = (re.escape(word) for word in pattern.split("."))
    spelled = r"\.".join({r"\*": r"[^.]*", r"\#": r".*"}.get(word, word) for word in words)
    return re.fullmatch(spelled.replace(r"\..*", r"(\..*)?").replace(r".*\.", r"(.*\.)?"), key) is not None


def _never(_pattern: str, _key: str) -> bool:
    return False


_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "direct": str.__eq__,
    "fanout": lambda _pattern, _key: True,
    "topic": topic_matches,
}
