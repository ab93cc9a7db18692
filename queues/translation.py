"""Our message to and from the AMQP library's: the one place where a property gets its name.

Called by `queues.amqp` and `queues.dead`; decides nothing about a message.
"""

from __future__ import annotations

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from queues.message import Message
from sandpool.wire import CONTENT_TYPE

_DURABLE = 2


def message_of(delivered: DeliveredMessage) -> Message:
    """What the broker handed out; absent properties are empty."""
    properties = delivered.header.properties
    return Message(
        body=delivered.body,
        message_id=properties.message_id or "",
        user_id=properties.user_id or "",
        reply_to=properties.reply_to or "",
        correlation_id=properties.correlation_id or "",
        headers=properties.headers or {},
    )


def properties_of(message: Message) -> Basic.Properties:
    """Of a durable message; empty ones are left out."""
    return Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=_DURABLE,
        message_id=message.message_id or None,
        user_id=message.user_id or None,
        reply_to=message.reply_to or None,
        correlation_id=message.correlation_id or None,
        headers=dict(message.headers) or None,
    )
