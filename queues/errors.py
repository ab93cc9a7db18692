"""Every way in which the broker can let us down, and whether the same call may succeed later.

    QueueError
    ├── BrokerAway        (retry)  not connected, or the connection broke during the call
    ├── NotConfirmed      (retry)  the broker refused the message (queue full) or did not confirm it in time
    ├── Unroutable                 no queue takes this routing key: `routing_key`
    ├── AccessRefused              this user may not do that
    ├── TopologyMismatch           a queue or exchange exists with other arguments; says which, and what to do
    ├── NotRequeueable             a dead letter that can never be a job again; says why
    └── DoorClosed                 the door was closed by its owner

Vendor errors are translated into these at the fence (`queues.fence`), which a test proves for every vendor class.
"""

from __future__ import annotations

from typing import ClassVar


class QueueError(Exception):
    """Root. `retry` says whether the same call may succeed later."""

    retry: ClassVar[bool] = False


class BrokerAway(QueueError):
    retry = True


class NotConfirmed(QueueError):
    retry = True


class Unroutable(QueueError):
    def __init__(self, exchange: str, routing_key: str) -> None:
        super().__init__(f"no queue of exchange {exchange!r} takes routing key {routing_key!r}")
        self.exchange = exchange
        self.routing_key = routing_key


class AccessRefused(QueueError):
    pass


class TopologyMismatch(QueueError):
    pass


class NotRequeueable(QueueError):
    pass


class DoorClosed(QueueError):
    pass
