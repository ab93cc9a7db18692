"""From the broker library's faults to `queues.errors`: the one place where a door's errors are made.

Called by `queues.amqp`. `sandpool.fault` names every vendor class; this file only gives the six faults our own names.
"""

from __future__ import annotations

from queues.errors import AccessRefused, BrokerAway, NotConfirmed, QueueError, TopologyMismatch, Unroutable
from sandpool.fault import Fault, Kind

_MISMATCH_HINT = (
    "a queue or exchange of that name exists with other arguments; when it is empty, delete it and start again: "
    "it is declared anew"
)


def queue_error(fault: Fault, exchange: str = "", routing_key: str = "") -> QueueError:
    """Our error for a fault of one publish (with its exchange and key) or of the connection (without)."""
    match fault.kind:
        case Kind.AWAY:
            return BrokerAway(fault.text)
        case Kind.ABSENT:
            return BrokerAway(f"{fault.text}: it is declared with the next connection")
        case Kind.REFUSED:
            return NotConfirmed(fault.text)
        case Kind.UNROUTABLE:
            return Unroutable(exchange, routing_key)
        case Kind.FORBIDDEN:
            return AccessRefused(fault.text)
        case Kind.MISMATCH:
            return TopologyMismatch(f"{fault.text}: {_MISMATCH_HINT}")
