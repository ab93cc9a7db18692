"""One asyncpg connection and its discipline: the only place where an agent's text meets the server's row protocol.

Used by `read` and `write` through `lender`, which owns the sessions. Agent text goes by the extended protocol only
(one statement, never `execute(text)`); transaction control is simple-protocol strings of constants and integers.

Isolation is READ COMMITTED: a job is one statement, and one statement sees one snapshot; REPEATABLE READ would add
serialization failures to writes and nothing to reads.

Two names of asyncpg used here are not its public API: `Connection._protocol.bind_execute/execute`, because a public
cursor costs one round trip more per statement, and the row description inside a prepared statement, because nothing
public tells a numeric's precision. asyncpg is pinned below 0.33; tests/integration/test_pool_session.py pins both.
"""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

import asyncpg
from asyncpg.protocol import BUILTIN_TYPE_NAME_MAP

from workers.sql import params
from workers.sql.faults import translate
from workers.sql.results import Shapes
from workers.sql.spec import PoolSpec, name_job
from workers.sql.types import TEXT_CODECS, TUPLE_CODECS, ColumnPlan, plan_column, unique_names

# Composite, range and multirange types of the database itself: asyncpg would decode them into objects of its own (or
# fail on them); their text form is what the result carries. Built-in ones are in TEXT_CODECS.
_TEXT_TYPES_SQL = """
    SELECT t.oid::int8 AS oid, t.typname AS name, n.nspname AS schema
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('c', 'r', 'm') AND t.oid >= 16384 AND n.nspname NOT IN ('pg_toast', 'information_schema')
"""
# The description of a result names the base type of a domain, but not of an array's elements.
_ELEMENTS_SQL = """
    WITH RECURSIVE chain (array_oid, element, modifier) AS (
        SELECT oid, typelem, -1 FROM pg_catalog.pg_type WHERE oid = ANY($1::int8[]::oid[])
        UNION ALL
        SELECT c.array_oid, d.typbasetype, d.typtypmod
        FROM chain c JOIN pg_catalog.pg_type d ON d.oid = c.element AND d.typtype = 'd'
    )
    SELECT c.array_oid::int8, c.element::int8, c.modifier
    FROM chain c JOIN pg_catalog.pg_type b ON b.oid = c.element AND b.typtype <> 'd'
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement prepared on one connection, with everything its description says."""

    statement: Any
    """asyncpg's own object: the server forgets the statement when this is gone."""
    shapes: Shapes
    parameters: tuple[params.ParamType, ...]

    @property
    def plans(self) -> tuple[ColumnPlan, ...]:
        """One per result column; none for a statement without a result."""
        return self.shapes.plans

    @property
    def in_bulk(self) -> bool:
        """Whether ADBC carries every column exactly and there is nothing to bind."""
        return bool(self.plans) and not self.parameters and all(plan.in_bulk for plan in self.plans)


class Session:
    """One connection. Not concurrent: whoever holds it from the lender is its only user."""

    def __init__(self, connection: asyncpg.Connection[Any], spec: PoolSpec) -> None:
        self._connection = connection
        # Private to asyncpg, and pinned: see the module's docstring.
        self._protocol: Any = cast(Any, connection)._protocol
        self._spec = spec
        self._statements: OrderedDict[str, Prepared] = OrderedDict()
        self._count = 0
        self.tenant: str | None = None
        """The only tenant whose statements ran here since the last full reset; None: nobody's."""
        self.broken = False
        """Must be closed, not lent again."""

    @classmethod
    async def open(cls, spec: PoolSpec) -> Session:
        """Connect with a deadline. Raises DatabaseUnavailable or DatabaseRefusesRole."""
        try:
            connection = await asyncpg.connect(
                spec.dsn,
                timeout=spec.connect_timeout_s,
                statement_cache_size=0,
                server_settings=spec.server_settings,
            )
            session = cls(connection, spec)
            session._install_codecs()
            try:
                # A server that stops answering here must not hold its caller for ever.
                async with asyncio.timeout(spec.connect_timeout_s):
                    await session._learn_types()
            except BaseException:
                connection.terminate()
                raise
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error) from None
        return session

    @property
    def pid(self) -> int:
        return int(self._connection.get_server_pid())

    @property
    def is_open(self) -> bool:
        return not self.broken and not self._connection.is_closed()

    async def begin(self, timeout_s: float, *, job_id: str = "", writes: bool = False) -> None:
        """Open the transaction that only this pool controls, with the statement's time limit and the job's name set on
        the server."""
        mode = "READ WRITE" if writes else "READ ONLY"
        limit_ms = max(1, int(timeout_s * 1000))
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED {mode}; SET LOCAL statement_timeout = {limit_ms}"
        await self.control(f"{begin}; {name_job(job_id)}")

    async def control(self, constant: str) -> None:
        """Run a string of our own (constants, integers, a job's checked id) by the simple protocol."""
        await self._protocol.query(constant, self._spec.connect_timeout_s)

    async def rollback(self) -> None:
        """End the transaction if one is open; afterwards the connection is idle or marked broken. Never raises."""
        try:
            if self._connection.is_in_transaction():
                await self._protocol.query("ROLLBACK", self._spec.connect_timeout_s)
            self.broken = self.broken or self._connection.is_closed() or self._connection.is_in_transaction()
        except Exception:  # noqa: BLE001 - whatever it is, the connection is not to be trusted
            self.broken = True

    async def reset_for(self, tenant: str) -> None:
        """Forget everything the last tenant may have left: statements, locks, cursors, settings, temporary things."""
        if self.tenant is not None and self.tenant != tenant:
            await self.control("DISCARD ALL")
            self.forget_statements()
        self.tenant = tenant

    def forget_statements(self) -> None:
        """Drop the statement cache. asyncpg must not ask the server to close each one: DISCARD ALL has."""
        self._statements.clear()
        cast(Any, self._connection)._stmts_to_close.clear()

    async def prepare(self, sql: str) -> Prepared:
        """The statement prepared on this connection, from its own bounded cache or anew (two round trips)."""
        if (known := self._statements.get(sql)) is not None:
            self._statements.move_to_end(sql)
            return known
        prepared = await self._describe(sql)
        self._statements[sql] = prepared
        if len(self._statements) > self._spec.statement_cache_size:
            self._statements.popitem(last=False)
        return prepared

    async def bind(self, values: Sequence[Any], prepared: Prepared) -> list[Any]:
        """The job's parameters as the driver sends them. Raises InvalidParameter."""
        converted = params.convert(values, prepared.parameters)
        for number, value in enumerate(converted, 1):
            if params.asks(value):
                converted[number - 1] = await self._ask(number, value, prepared.parameters[number - 1])
        return converted

    async def execute(self, prepared: Prepared, arguments: Sequence[Any], limit: int) -> tuple[list[Any], str, bool]:
        """Run it and fetch the first `limit` rows (0: all): (rows, command tag, whether that was all)."""
        rows, status, complete = await self._protocol.bind_execute(
            prepared.statement._state, arguments, "", limit, True, None
        )
        return rows, (status or b"").decode(), complete

    async def fetch_more(self, prepared: Prepared, limit: int) -> tuple[list[Any], str, bool]:
        """The next rows of what `execute` started."""
        rows, status, complete = await self._protocol.execute(prepared.statement._state, "", limit, True, None)
        return rows, (status or b"").decode(), complete

    async def query(self, sql: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        """A statement of the pool's own (extended protocol), all rows. Callers without a timeout have a deadline around
        them: the job's own."""
        return list(await self._connection.fetch(sql, *arguments, timeout=timeout_s))

    async def run(self, sql: str, *arguments: Any) -> list[Any]:
        """A statement of the pool's own that repeats: prepared once per connection, all rows."""
        prepared = await self.prepare(sql)
        rows, _, _ = await self.execute(prepared, arguments, 0)
        return rows

    async def close(self) -> None:
        """Disconnect politely within a second, else hard. Never raises."""
        try:
            await self._connection.close(timeout=1.0)
        except Exception:  # noqa: BLE001 - whatever it is, the socket goes
            self._connection.terminate()

    def terminate(self) -> None:
        """Drop the socket now; the server notices by client_connection_check_interval."""
        self.broken = True
        self._connection.terminate()

    async def _describe(self, sql: str) -> Prepared:
        self._count += 1
        name = f"sandpool_{self._count}"
        try:
            statement = await self._connection.prepare(sql, name=name)
        except asyncpg.UnsupportedClientFeatureError:
            # A type that was created after this connection learned the text types.
            await self._learn_types()
            statement = await self._connection.prepare(sql, name=f"{name}b")
        attributes = statement.get_attributes()
        parameters = statement.get_parameters()
        modifiers = _type_modifiers(cast(Any, statement)._state, len(attributes))
        arrays = {kind.oid for kind in (*(a.type for a in attributes), *parameters) if kind.name.endswith("[]")}
        elements = await self._element_types(arrays) if arrays else {}
        names = unique_names([a.name for a in attributes])
        plans = []
        for name, kind, modifier in zip(names, (a.type for a in attributes), modifiers, strict=True):
            element, inner = elements.get(kind.oid, (0, -1))
            plans.append(plan_column(name, kind.name, kind.oid, max(modifier, inner), element_oid=element))
        declared = tuple(_param_type(parameter, elements.get(parameter.oid, (0, -1))[0]) for parameter in parameters)
        return Prepared(statement, Shapes(tuple(plans)), declared)

    async def _element_types(self, arrays: set[int]) -> dict[int, tuple[int, int]]:
        """Array type -> (base type of its elements, modifier of the domain that the elements may be)."""
        rows = await self.query(_ELEMENTS_SQL, list(arrays))
        return {row[0]: (row[1], row[2]) for row in rows}

    async def _ask(self, number: int, value: Any, declared: params.ParamType) -> Any:
        """Have the server read a text form that Python does not read exactly alike."""
        if isinstance(value, list):
            return [await self._ask(number, item, declared) for item in value]
        if not isinstance(value, params.AskServer):
            return value
        try:
            rows = await self.query(f"SELECT $1::text::{value.type_name}", value.text)
        except asyncpg.DataError:
            raise params.rejected(number, declared) from None
        return params.as_argument(rows[0][0], declared)

    def _install_codecs(self) -> None:
        settings: Any = self._connection.get_settings()
        for oid, name in TUPLE_CODECS.items():
            decode = tuple if name == "interval" else itemgetter(0)
            settings.add_python_codec(oid, name, "pg_catalog", [], "scalar", tuple, decode, "tuple")
        for oid, name in TEXT_CODECS.items():
            settings.set_builtin_type_codec(oid, name, "pg_catalog", "scalar", "text", "text")

    async def _learn_types(self) -> None:
        settings: Any = self._connection.get_settings()
        for row in await self.query(_TEXT_TYPES_SQL):
            settings.set_builtin_type_codec(row["oid"], row["name"], row["schema"], "scalar", "text", "text")


def _param_type(declared: Any, element_oid: int) -> params.ParamType:
    base = declared.name.removesuffix("[]") if element_oid else declared.name
    # asyncpg encodes a domain as its base type and calls it so, under the domain's own oid.
    oid = BUILTIN_TYPE_NAME_MAP.get(declared.name, declared.oid) if declared.schema == "pg_catalog" else declared.oid
    return params.ParamType(oid, declared.name, element_oid, _quoted(declared.schema, base, bool(element_oid)))


def _quoted(schema: str, name: str, is_array: bool) -> str:
    parts = (part.replace('"', '""') for part in (schema, name))
    return '"{}"."{}"'.format(*parts) + ("[]" if is_array else "")


def _type_modifiers(state: Any, width: int) -> list[int]:
    """The type modifier of every column, from the row description (name, table, column, oid, length, modifier, format)
    that a prepared statement holds but does not show; -1 for all where asyncpg should ever hold it otherwise."""
    for referent in gc.get_referents(state):
        is_long = isinstance(referent, list) and len(referent) == width > 0
        if is_long and all(isinstance(item, tuple) and len(item) == 7 for item in referent):
            return [int(item[5]) for item in referent]
    return [-1] * width
