"""Verdicts for the sessions of one tenant: from a cache by the exact text, else from the policy's parser process.

Used by `session`. The catalog that statements are judged by is kept fresh here, as `cluster.catalogs` does it for jobs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from workers.errors import WorkerError
from workers.sql.broker.errors import Fatal, Trouble
from workers.sql.broker.prepared import Prepared, Ruling
from workers.sql.judge import Judge
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.policy.session import Refuse, SessionFacts
from workers.sql.policy.session.startup import judge_startup

Protocol = Literal["simple", "extended"]
UNKNOWN_NAME_RULES = frozenset({"table.unlisted", "column.unknown", "function.unlisted"})
PASSING_RULES = frozenset({"check.failed", "check.overloaded"})
"""Not an answer about the statement: never kept."""
REREAD_AFTER_S = 5.0
"""A refusal for an unknown name reads the catalog again at most this often."""
MOST_RULINGS = 4096
MOST_BYTES = 16 << 20
MOST_TURN_BYTES = 4096
"""Longest message that is recognised by its bytes."""


@dataclass(slots=True)
class CatalogShelf:
    """The catalog of one database, read when it is needed and older than `ttl_s`."""

    read: Callable[[], Awaitable[Catalog]]
    ttl_s: float = 60.0
    catalog: Catalog | None = None
    read_at_s: float = 0.0
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_fresh(self) -> bool:
        return self.catalog is not None and monotonic() - self.read_at_s < self.ttl_s

    async def fresh(self, max_age_s: float) -> Catalog:
        """Not older than this; an older one when the database does not answer. Raises WorkerError."""
        async with self._reading:
            if self.catalog is None or monotonic() - self.read_at_s >= max_age_s:
                try:
                    self.catalog = await self.read()
                except WorkerError:
                    if self.catalog is None:
                        raise
                self.read_at_s = monotonic()
            return self.catalog


class Rulings:
    """Verdicts for one tenant on one database."""

    def __init__(
        self, judge: Judge, policy: Policy, shelf: CatalogShelf, tenant: str, *, writes: bool, database: str = ""
    ) -> None:
        """`database`: the name by which clients know it."""
        self._judge = judge
        self._policy = policy
        self._shelf = shelf
        self._tenant = tenant
        self._writes = writes
        self._database = database
        self._known: OrderedDict[tuple[bytes, str], Ruling] = OrderedDict()
        self._bytes = 0
        self._version = ""
        self.turns: dict[bytes, Prepared] = {}
        """Messages (Query, Parse of the unnamed statement) that begin a usual turn, with what they mean."""

    def known(self, sql: bytes, protocol: str) -> Ruling | None:
        """The verdict where it was asked for before, by the catalog of now."""
        if not self._shelf.is_fresh:
            return None
        return self._known.get((sql, protocol))

    def keep_turn(self, frame: bytes, prepared: Prepared) -> Prepared:
        """Recognise this message by its bytes from now on."""
        if len(frame) <= MOST_TURN_BYTES:
            if len(self.turns) >= MOST_RULINGS:
                self.turns.clear()
            self.turns[frame] = prepared
        return prepared

    def refresh(self) -> None:
        """Called a few times a second: what was known by a catalog that is too old by now is asked for again."""
        if self.turns and not self._shelf.is_fresh:
            self.turns.clear()

    def settings_at_start(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The settings of a session that starts with these parameters. Raises Fatal."""
        judged = judge_startup(parameters, self._policy, self._shelf.catalog, writes=self._writes)
        if isinstance(judged, Refuse):
            raise Fatal(judged.sqlstate, judged.message, hint=judged.hint, rule=judged.rule)
        return judged

    async def ask(self, sql: bytes, protocol: Protocol) -> Ruling:
        """The verdict. Raises Trouble when there is none."""
        try:
            text = sql.decode()
        except UnicodeDecodeError:
            raise Trouble("22021", "the statement is not valid UTF-8") from None
        facts = SessionFacts(protocol=protocol, writes=self._writes, database=self._database)
        try:
            catalog = await self._shelf.fresh(self._shelf.ttl_s)
            found = self._known.get((sql, protocol)) if catalog.version == self._version else None
            if found is not None:
                return found
            verdict = await self._judge.judge_session(text, facts, self._policy, catalog, self._tenant)
            if isinstance(verdict, Refuse) and verdict.rule in UNKNOWN_NAME_RULES:
                newer = await self._shelf.fresh(REREAD_AFTER_S)
                if newer.version != catalog.version:
                    catalog = newer
                    verdict = await self._judge.judge_session(text, facts, self._policy, catalog, self._tenant)
        except WorkerError as error:
            raise Trouble(error.sqlstate or "58000", error.message, hint=error.hint) from None
        ruling = Ruling(text, verdict)
        if not isinstance(verdict, Refuse) or verdict.rule not in PASSING_RULES:
            self._keep((sql, protocol), ruling, catalog.version)
        return ruling

    def _keep(self, key: tuple[bytes, str], ruling: Ruling, version: str) -> None:
        if version != self._version:
            self._known.clear()
            self.turns.clear()
            self._bytes, self._version = 0, version
        if key not in self._known:
            self._bytes += _weight(key, ruling)
        self._known[key] = ruling
        while len(self._known) > MOST_RULINGS or self._bytes > MOST_BYTES:
            old_key, old = self._known.popitem(last=False)
            self._bytes -= _weight(old_key, old)


def _weight(key: tuple[bytes, str], ruling: Ruling) -> int:
    sql = getattr(ruling.verdict, "sql", "")
    return 2 * len(key[0]) + 2 * len(sql) + 1000
