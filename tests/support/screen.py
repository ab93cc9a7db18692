"""What a terminal shows, for tests that wait for it."""

from __future__ import annotations

import asyncio


class Screen:
    """Collects what a terminal shows."""

    def __init__(self) -> None:
        self.shown = b""
        self._news = asyncio.Event()

    async def listen(self, stream: str, content: bytes) -> None:
        assert stream == "stdout"
        self.shown += content
        self._news.set()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while text not in self.shown:
                self._news.clear()
                await self._news.wait()
