"""Commands in a terminal for somebody far away who types, by requests, through a runner that is a plain process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from sandpool.outcome import Ending
from tests.sandbox.test_runner_code import folder, runner, session
from workers.sandbox import requests
from workers.sandbox.interaction import Interaction
from workers.sandbox.kept import KeptSandboxes
from workers.sandbox.requests import Answer, Exec, Requests, Type, Watch, pack, unpack
from workers.sandbox.session import Session
from workers.sandbox.tail import Heard

__all__ = ["folder", "runner", "session"]


class One:
    """Of the kept sandboxes of a host, the one that these tests use."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def check_known(self, _tenant: str, _id: str) -> None: ...

    @asynccontextmanager
    async def open_command(self, _tenant: str, _id: str, argv: Any, **options: Any) -> AsyncIterator[Interaction]:
        async with self._session.open_command(argv, **options) as command:
            yield command


@pytest.fixture
def host(session: Session) -> Requests:
    return Requests(cast(KeptSandboxes, One(session)), {}, {})


async def ask(host: Requests, request: Any, tenant: str = "acme") -> Answer:
    return unpack(await host.answer(tenant, pack(request)))


async def shown(host: Requests, wanted: bytes, begin: int = 0) -> int:
    """Until that stands on the screen; where it ends."""
    async with asyncio.timeout(10):
        while True:
            heard = await ask(host, Watch(id="sb", watch="w", stdout_from=begin, wait_s=0.05))
            assert isinstance(heard, Heard)
            if wanted in heard.stdout:
                return begin + heard.stdout.index(wanted) + len(wanted)
            await asyncio.sleep(0.01)


SHELL = Exec(id="sb", argv=("/bin/sh", "-c", "echo up; read x; stty size; echo got-$x; read y; exit 3"), watch="w")
SIZED = Exec(id="sb", argv=SHELL.argv, watch="w", rows=33, columns=97)


async def test_keys_and_sizes_reach_the_terminal_of_its_own_tenant_only(host: Requests) -> None:
    running = asyncio.create_task(ask(host, SIZED))
    at = await shown(host, b"up\r\n")
    assert await ask(host, Type(id="sb", watch="w", data=b"theirs\n"), "globex") == Heard()
    assert await ask(host, Type(id="sb", watch="other", data=b"theirs\n")) == Heard()
    assert await ask(host, Type(id="sb", watch="w", rows=40, columns=120)) == Heard(running=True)
    await ask(host, Type(id="sb", watch="w", data=b"mine\n"))
    await shown(host, b"40 120\r\ngot-mine\r\n", at)
    await ask(host, Type(id="sb", watch="w", data=b"\n"))  # it ends only once that was seen: then nobody may watch it
    ran = await running
    assert isinstance(ran, requests.Ran) and (ran.ending, ran.code) == (str(Ending.Failed), 3)
    assert await ask(host, Type(id="sb", watch="w", data=b"late")) == Heard()


async def test_a_terminal_that_nobody_watches_any_more_is_ended(
    host: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "UNSEEN_S", 0.2)
    async with asyncio.timeout(10):
        ran = await ask(host, SIZED)
    assert isinstance(ran, requests.Ran) and (ran.ending, ran.code) == (str(Ending.Failed), -9)


@pytest.mark.parametrize("size", [(-1, 80), (10, 0), (20_000, 80)])
async def test_a_size_that_no_terminal_has_is_refused(host: Requests, size: tuple[int, int]) -> None:
    refused = await ask(host, Exec(id="sb", argv=("true",), watch="w", rows=size[0], columns=size[1]))
    assert isinstance(refused, requests.Refused) and refused.code == "sandbox.spec"
