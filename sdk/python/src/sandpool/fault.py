"""What a broker error means, said once for both sides: every error class of the AMQP library, in six words.

`sandpool.amqp` turns a fault into `sandpool.errors`, the cluster's doors into theirs; tests prove that no class of the
vendor's is left out. Nobody else sees a vendor error. Vendor types only; no I/O here.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from aiormq import exceptions as vendor
from pamqp.exceptions import PAMQPException


class Kind(Enum):
    """What to do about it."""

    AWAY = "not connected, or the connection broke: later"
    REFUSED = "the broker did not take this message now: later"
    UNROUTABLE = "no queue takes this routing key: never"
    FORBIDDEN = "this user may not do that: never"
    ABSENT = "a queue or exchange is not there: later, when it was declared"
    MISMATCH = "something exists with other properties: never as it is"


class Fault(Exception):
    """One failed exchange with the broker."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


VENDOR_ERRORS = (vendor.AMQPError, vendor.ChannelInvalidStateError, PAMQPException, OSError, RuntimeError, TimeoutError)
"""Everything that a call into the vendor raises when the broker, the network or its own state is the reason."""

_KINDS: tuple[tuple[type[BaseException], Kind], ...] = (  # the first match wins: subclasses before their parents
    (vendor.PublishError, Kind.UNROUTABLE),
    (vendor.DeliveryError, Kind.REFUSED),
    (vendor.AuthenticationError, Kind.FORBIDDEN),
    (vendor.ProbableAuthenticationError, Kind.FORBIDDEN),
    (vendor.ConnectionNotAllowed, Kind.FORBIDDEN),
    (vendor.ChannelAccessRefused, Kind.FORBIDDEN),
    (vendor.ChannelNotFoundEntity, Kind.ABSENT),
    (vendor.ChannelPreconditionFailed, Kind.MISMATCH),
    (vendor.ChannelLockedResource, Kind.MISMATCH),
    (vendor.DuplicateConsumerTag, Kind.MISMATCH),
    (vendor.IncompatibleProtocolError, Kind.MISMATCH),
    (vendor.MethodNotImplemented, Kind.MISMATCH),
)


def fault_of(error: BaseException) -> Fault:
    """The fault behind a vendor error; whatever is not named above is the connection's trouble."""
    if isinstance(error, Fault):
        return error
    kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), Kind.AWAY)
    if kind is Kind.UNROUTABLE:
        return Fault(kind, "no queue takes this routing key")
    if kind is Kind.REFUSED:
        return Fault(kind, "the broker refused the message: its queue is full")
    text = str(error).strip() or type(error).__name__
    if isinstance(error, vendor.ConnectionInternalError):
        text = f"{text}: the broker failed inside; if that stays so, restart its node"
    return Fault(kind, "no answer from the broker in time" if isinstance(error, asyncio.TimeoutError) else text)
