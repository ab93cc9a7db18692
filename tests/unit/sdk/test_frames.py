"""Our hand-made AMQP commands are byte for byte the library's. `sandpool.frames`."""

from __future__ import annotations

import pamqp.frame
import pytest
from aiormq.abc import ChannelFrame
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from sandpool import frames

CHANNELS = st.integers(1, 65535)
SHORT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@given(CHANNELS, st.integers(1, 2**63 - 1), st.booleans())
def test_an_ack_is_the_librarys(channel: int, delivery_tag: int, multiple: bool) -> None:
    expected = pamqp.frame.marshal(Basic.Ack(delivery_tag, multiple), channel)
    assert frames.ack(channel, delivery_tag, multiple=multiple) == expected


@given(CHANNELS, st.integers(1, 2**63 - 1))
def test_a_requeue_is_the_librarys(channel: int, delivery_tag: int) -> None:
    expected = pamqp.frame.marshal(Basic.Nack(delivery_tag, multiple=False, requeue=True), channel)
    assert frames.requeue(channel, delivery_tag) == expected


@given(CHANNELS, SHORT, st.binary(max_size=500), SHORT.filter(bool), SHORT.filter(bool), st.integers(16, 200))
def test_a_publish_is_the_librarys(
    channel: int, routing_key: str, body: bytes, content_type: str, correlation_id: str, frame_max: int
) -> None:
    properties = Basic.Properties(content_type=content_type, delivery_mode=1, correlation_id=correlation_id)
    size = frame_max - 8
    parts = [
        Basic.Publish(exchange="", routing_key=routing_key),
        ContentHeader(body_size=len(body), properties=properties),
        *(ContentBody(body[start : start + size]) for start in range(0, len(body), size)),
    ]
    ours = frames.publish(
        channel, routing_key, body, content_type=content_type, correlation_id=correlation_id, frame_max=frame_max
    )
    assert ours == ChannelFrame.marshall(channel, parts).payload


def test_a_name_too_long_for_amqp_is_an_error() -> None:
    with pytest.raises(ValueError):
        frames.publish(1, "x" * 256, b"", content_type="t", correlation_id="c", frame_max=131_072)
