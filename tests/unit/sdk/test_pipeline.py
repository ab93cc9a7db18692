"""A window of unconfirmed messages: bounded, in order, and nothing lost when confirms fail. `sandpool.pipeline`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandpool.errors import BrokerUnavailable, UsageError
from sandpool.pipeline import Pipeline
from sandpool.transport import Listener, Outgoing


class ScriptedTransport:
    """Confirms as its script says: `ok`, `lost` (publish again) or `never`; then `ok` for ever."""

    tenant = "acme"

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.confirmed: Counter[str] = Counter()
        self.open_confirms = 0
        self.most_open = 0

    async def open(self, listener: Listener, timeout_s: float) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Nothing to disconnect."""

    async def publish(self, message: Outgoing, timeout_s: float) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        confirm: asyncio.Future[None] = loop.create_future()
        self.open_confirms += 1
        self.most_open = max(self.most_open, self.open_confirms)
        loop.call_soon(self._end, confirm, message.message_id, self.script.pop(0) if self.script else "ok")
        return confirm

    def _end(self, confirm: asyncio.Future[None], message_id: str, how: str) -> None:
        if how == "never":
            return
        self.open_confirms -= 1
        if how == "ok":
            self.confirmed[message_id] += 1
            confirm.set_result(None)
        elif how == "lost":
            confirm.set_exception(BrokerUnavailable("lost"))
        else:
            confirm.set_exception(UsageError(how))


def message(number: int) -> Outgoing:
    return Outgoing("e", "k", b"", str(number))


@settings(max_examples=min(50, settings.default.max_examples), deadline=None)
@given(
    script=st.lists(st.sampled_from(["ok", "lost"]), max_size=12).filter(lambda s: s.count("lost") < 4),
    window=st.integers(1, 5),
    count=st.integers(0, 10),
)
def test_every_message_is_confirmed_whatever_gets_lost(script: list[str], window: int, count: int) -> None:
    transport = ScriptedTransport(list(script))

    async def send() -> None:
        pipeline = Pipeline(transport, window=window, timeout_s=20)
        for number in range(count):
            await pipeline.send(message(number))
        await pipeline.flush()

    asyncio.run(send())
    assert set(transport.confirmed) == {str(number) for number in range(count)}
    assert transport.most_open <= window


async def test_a_confirm_that_never_comes_ends_the_wait() -> None:
    pipeline = Pipeline(ScriptedTransport(["never"]), window=1, timeout_s=0.1)
    await pipeline.send(message(1))
    started_s = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="no confirm"):
        await pipeline.flush()
    assert time.monotonic() - started_s < 1


async def test_a_broker_that_always_refuses_ends_the_wait() -> None:
    pipeline = Pipeline(ScriptedTransport(["lost"] * 1000), window=1, timeout_s=0.3)
    await pipeline.send(message(1))
    started_s = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="lost"):
        await pipeline.flush()
    assert time.monotonic() - started_s < 1


async def test_what_no_retry_can_help_is_raised_at_once() -> None:
    transport = ScriptedTransport(["no queue"])
    pipeline = Pipeline(transport, window=1, timeout_s=10)
    await pipeline.send(message(1))
    with pytest.raises(UsageError, match="no queue"):
        await pipeline.flush()
    assert not transport.confirmed
