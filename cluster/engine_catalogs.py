"""Reads what a database holds whose engine runs inside a sandbox: in a sandbox too, never on the host.

Called by `cluster.catalogs`. The answer came out of a sandbox, so it is decoded by a closed schema; the tables that it
names are then judged by the policy like any other database's.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cluster.admission import Admitted
from cluster.bench import Bench
from cluster.placement import Need, Placed, SandboxNeed, place
from cluster.run import Rules
from cluster.sandbox_admission import Room, room_of
from cluster.tasks import EngineRules, catalog_task
from sandpool.job import Limits
from sandpool.outcome import Ending
from workers.errors import DatabaseError
from workers.sql.policy.catalog import Catalog, CatalogColumn, CatalogTable

TIMEOUT_S = 60.0
SCHEMA = "main"
Name = Annotated[str, msgspec.Meta(max_length=1000)]


class CatalogUnreadable(DatabaseError):
    """The file cannot be read now, or is none of its engine's."""

    code = "database.unreadable"
    retry = True


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Name
    name: Name
    kind: Literal["table", "view"]
    columns: Annotated[list[tuple[Name, Name]], msgspec.Meta(max_length=10_000)]


_Tables = Annotated[list[_Table], msgspec.Meta(max_length=100_000)]
_tables: msgspec.json.Decoder[list[_Table]] = msgspec.json.Decoder(_Tables)


async def read_catalog(bench: Bench, engine: EngineRules, rules: Rules) -> Catalog:
    """Raises CatalogUnreadable, WorkerLost."""
    room = room_of(Limits(), rules.sandboxes)
    assert isinstance(room, Room), "the defaults are below their ceilings"
    admitted = Admitted(TIMEOUT_S, max_rows=0, max_bytes=0, max_cost=None, max_attempts=1, room=room)
    task = catalog_task(engine, admitted)
    limits = task.limits
    need = Need(sandbox=SandboxNeed(task.image, limits.cpus, limits.memory_bytes, tenant=task.tenant))
    placed = place(need, bench.nodes())
    if not isinstance(placed, Placed):
        raise CatalogUnreadable(f"its schema cannot be read now: {placed.reason}")
    attempt = await bench.run_task(placed.node, task)
    if attempt.ending is not Ending.Succeeded:
        reason = attempt.error.message if attempt.error else str(attempt.ending)
        raise CatalogUnreadable(f"its schema cannot be read: {reason}")
    try:
        found = _tables.decode(attempt.inline)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CatalogUnreadable("its schema cannot be read: the answer is none") from error
    return Catalog(tables=tuple(map(_table, found)), search_path=(SCHEMA,))


def _table(found: _Table) -> CatalogTable:
    columns = tuple(CatalogColumn(name, kind) for name, kind in found.columns)
    return CatalogTable(schema=found.schema, name=found.name, columns=columns, kind=found.kind)
