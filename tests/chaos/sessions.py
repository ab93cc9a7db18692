"""Clients of the database broker while everything breaks: each asks what only it may see, and checks every answer.

They come through doors of the cluster's own pools, asked for as a host does for its sandboxes, on two tenants' behalf.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import psycopg

from tests.chaos.house import ChaosHouse
from tests.chaos.plan import OWNED_ROWS, TENANTS
from workers.doors import DoorRequest, open_door
from workers.errors import WorkerError

ZONES = ("Asia/Tokyo", "America/New_York", "UTC", "Europe/Berlin")
CLIENTS = 12
PAUSE_S = 0.1
DEADLINE_S = 25.0
"""A statement may take 10 s here, a wait for a connection as long, and a fault stands still for 4 s."""
_ASKED = "select %s as marker, tenant, secret, to_char(timestamptz '2013-01-01 12:00+00', 'HH24') from owned "
ONE = _ASKED + "where number = %s"
ALL = _ASKED + "order by number"
HOURS = {"Asia/Tokyo": "21", "America/New_York": "07", "UTC": "12", "Europe/Berlin": "13"}


class Sessions:
    """`CLIENTS` tasks, for as long as the context lasts. What went wrong is in `wrong`, what happened in `seen`."""

    def __init__(self, house: ChaosHouse, seed: int) -> None:
        self._house = house
        self._seed = seed
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest_s = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        self.wrong += [repr(each) for each in ended if not isinstance(each, asyncio.CancelledError)]

    async def _client(self, number: int) -> None:
        """One client with a door of its own, which it asks for again when a whole cluster was restarted."""
        tenant = TENANTS[1 + number % 2]
        folder = Path(tempfile.mkdtemp(prefix="sp-"))
        request = DoorRequest(
            folder=str(folder), tenant=tenant, job_id=f"sessions-{number}", attempt_id="1-a", volume="results"
        )
        client = _Client(self, folder, tenant, Random(self._seed + number), number)
        try:
            while True:
                with contextlib.suppress(WorkerError):
                    async with open_door(self._house.sandboxes / "doors", "flights", request):
                        await client.run()
                await asyncio.sleep(PAUSE_S)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Client:
    def __init__(self, all_of_them: Sessions, folder: Path, tenant: str, random: Random, number: int) -> None:
        self._all = all_of_them
        self._folder = folder
        self._tenant = tenant
        self._random = random
        self._name = f"{tenant}/{number}"
        self._zone = ZONES[number % len(ZONES)]
        self._asked = 0

    async def run(self) -> None:
        """Connect, ask, connect again."""
        while True:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    connection = await psycopg.AsyncConnection.connect(
                        host=str(self._folder), user=self._tenant, dbname="flights", autocommit=True
                    )
            except psycopg.OperationalError:
                self._all.seen["not connected"] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            except TimeoutError:
                self._complain("no connection and no refusal before its deadline")
                continue
            try:
                await self._converse(connection)
            finally:
                await connection.close()

    async def _converse(self, connection: psycopg.AsyncConnection) -> None:
        """Until the connection ends."""
        zone_is_set = False
        while not connection.closed:
            started = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    if not zone_is_set:
                        await connection.execute(f"set timezone to '{self._zone}'")
                        zone_is_set = True
                    await self._ask(connection)
                self._all.seen["answered"] += 1
            except psycopg.Error as error:
                if error.sqlstate is None and not connection.closed:
                    self._complain(f"an error without SQLSTATE on a live connection: {error!r}")
                self._all.seen[f"error {error.sqlstate or 'connection ended'}"] += 1
                if not connection.closed:
                    with contextlib.suppress(psycopg.Error, TimeoutError):
                        async with asyncio.timeout(DEADLINE_S):
                            await connection.rollback()
            except TimeoutError:
                self._complain(f"neither answer nor SQLSTATE within {DEADLINE_S:g} s")
                return
            self._all.longest_s = max(self._all.longest_s, time.monotonic() - started)
            await asyncio.sleep(self._random.uniform(0, 2 * PAUSE_S))

    async def _ask(self, connection: psycopg.AsyncConnection) -> None:
        match self._random.randrange(10):
            case 0:
                async with connection.transaction():
                    await self._one(connection)
                    await self._one(connection)
            case 1:
                await self._everything(connection)
            case 2:
                try:
                    await connection.execute("select rolname from pg_authid")
                except psycopg.errors.InsufficientPrivilege:
                    return
                self._complain("a forbidden statement was answered")
            case _:
                await self._one(connection)

    async def _one(self, connection: psycopg.AsyncConnection) -> None:
        marker, number = self._marker(), self._random.randint(1, OWNED_ROWS)
        rows = await (await connection.execute(ONE, (marker, number))).fetchall()
        self._compare(rows, [(marker, self._tenant, f"{self._tenant}-{number}", HOURS[self._zone])])

    async def _everything(self, connection: psycopg.AsyncConnection) -> None:
        marker = self._marker()
        rows = await (await connection.execute(ALL, (marker,))).fetchall()
        numbers = range(1, OWNED_ROWS + 1)
        self._compare(rows, [(marker, self._tenant, f"{self._tenant}-{n}", HOURS[self._zone]) for n in numbers])

    def _marker(self) -> str:
        self._asked += 1
        return f"{self._name}/{self._asked}"

    def _compare(self, rows: list, wanted: list) -> None:
        if rows != wanted:
            self._complain(f"asked for {wanted[:1]} and {len(wanted)} rows, was told {rows[:2]} and {len(rows)} rows")

    def _complain(self, what: str) -> None:
        self._all.wrong.append(f"{self._name}: {what}")
