"""Catalogs are read ahead, kept, read again when a name is unknown, and survive a database that goes away."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import catalogs
from cluster.catalogs import Catalogs
from sandpool.job import SqlJob
from sandpool.outcome import Verdict
from workers.errors import DatabaseUnavailable
from workers.sql.judge import JudgeUnavailable
from workers.sql.policy import Catalog, CatalogColumn, CatalogTable, load_policy

POLICIES = {"flights": load_policy('tables = "all"')}


def catalog(*tables: str) -> Catalog:
    column = CatalogColumn("a", "integer")
    return Catalog(tables=tuple(CatalogTable(schema="public", name=name, columns=(column,)) for name in tables))


class Library:
    """A bench that knows only catalogs, and a judge that allows a text which is the name of a table."""

    def __init__(self) -> None:
        self.reads = 0
        self.now: Catalog | Exception = catalog("flights")

    async def catalog(self, database: str) -> Catalog:
        self.reads += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def judge(
        self, text: str, dialect: str, policy: Any, known: Catalog, tenant: str, *, writes: bool = False
    ) -> Verdict:
        if text == "overloaded":
            return Verdict(False, "check.overloaded", "try again later")
        return Verdict(("public", text) in known.by_name, "table.unlisted")


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(catalogs, "monotonic", lambda: now[0])
    return now


def over(library: Library) -> Catalogs:
    return Catalogs(library, library, POLICIES, ttl_s=60)  # type: ignore[arg-type]


def job(sql: str) -> SqlJob:
    return SqlJob(database="flights", sql=sql)


async def test_a_warm_catalog_is_read_once_for_many_jobs(library: Library, clock: list[float]) -> None:
    shelves = over(library)
    await shelves.warm()
    assert [(await shelves.judge(job("flights"), "acme")).allowed for _ in range(5)] == [True] * 5
    assert library.reads == 1


async def test_a_database_that_is_away_at_the_start_is_read_by_the_first_job(
    library: Library, clock: list[float]
) -> None:
    library.now = DatabaseUnavailable("down")
    shelves = over(library)
    await shelves.warm()
    with pytest.raises(DatabaseUnavailable):
        await shelves.judge(job("flights"), "acme")
    library.now = catalog("flights")
    assert (await shelves.judge(job("flights"), "acme")).allowed


async def test_a_table_made_a_moment_ago_is_found(library: Library, clock: list[float]) -> None:
    shelves = over(library)
    await shelves.warm()
    library.now = catalog("flights", "fresh")
    clock[0] += 6
    assert (await shelves.judge(job("fresh"), "acme")).allowed and library.reads == 2


async def test_unknown_names_cannot_be_used_to_load_the_database(library: Library, clock: list[float]) -> None:
    shelves = over(library)
    await shelves.warm()
    clock[0] += 6
    for _ in range(50):
        assert not (await shelves.judge(job("nowhere"), "acme")).allowed
    assert library.reads == 2


async def test_a_stale_catalog_serves_while_the_database_is_away(library: Library, clock: list[float]) -> None:
    shelves = over(library)
    await shelves.warm()
    library.now = DatabaseUnavailable("down")
    clock[0] += 61
    assert (await shelves.judge(job("flights"), "acme")).allowed and library.reads == 2


async def test_an_overloaded_check_is_no_verdict(library: Library, clock: list[float]) -> None:
    shelves = over(library)
    with pytest.raises(JudgeUnavailable):
        await shelves.judge(job("overloaded"), "acme")
