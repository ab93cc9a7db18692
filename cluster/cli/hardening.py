"""From a registered database and its policy to the grants that its role needs. Pure; called by `database harden`.

Column grants need to know columns: where the policy denies some, or filters and masks by others, only the database's
own catalog can tell which those are. Without it such a table gets a grant on the whole, and a remark says so.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from cluster.errors import SettingsInvalid
from workers.sql.harden import Hardening
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import EVERY_TABLE, Policy, TablePolicy
from workers.sql.spec import PoolSpec

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_SPARE_CONNECTIONS = 2
"""Above the pool's budget: cancellation and `sandpool database check` connect too."""


def hardening_of(
    spec: PoolSpec, policy: Policy, catalog: Catalog | None, *, statement_timeout_s: float
) -> tuple[Hardening, list[str]]:
    """What to grant, and remarks on what could not be narrowed down.

    Raises SettingsInvalid when the policy allows every table and no catalog says which those are.
    """
    parts = urlsplit(spec.dsn)
    role, database = unquote(parts.username or ""), unquote(parts.path.lstrip("/"))
    if not role or not database:
        raise SettingsInvalid(
            f"databases.{spec.database}.dsn: names no role or no database; postgresql://role:password@host/name"
        )
    schema = policy.schema_name or "public"
    tables: dict[str, tuple[str, ...]] = {}
    remarks: list[str] = []
    for name, rules in _tables(spec, policy, catalog, schema).items():
        known = _columns(catalog, name)
        columns = readable_columns(rules, known)
        if columns is None:
            remarks.append(f"{name}: granted as a whole; --connect reads its columns and grants only those it needs")
        tables[name] = columns or ()
    hardening = Hardening(
        role=role,
        database=database,
        tables=tables,
        writes=dict(spec.write_tables) if spec.writes else {},
        connection_limit=spec.budget + _SPARE_CONNECTIONS,
        statement_timeout_s=statement_timeout_s,
        search_path=(schema,),
    )
    return hardening, remarks


def readable_columns(rules: TablePolicy, known: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The columns to grant: empty for all of them, None where that cannot be told without `known`.

    A filter or mask may use columns that no statement may: every known column whose name stands in it is granted.
    """
    expressions = [rules.filter or "", *(rules.mask or {}).values()]
    if rules.columns is None and rules.deny is None:
        return ()
    if known is None:
        return rules.columns if rules.columns is not None and not any(expressions) else None
    allowed = set(rules.columns) if rules.columns is not None else set(known) - set(rules.deny or ())
    words = {word for text in expressions for word in _WORD.findall(text)}
    used = {column for column in known if column in words or any(f'"{column}"' in text for text in expressions)}
    return tuple(column for column in known if column in allowed | used)


def _tables(spec: PoolSpec, policy: Policy, catalog: Catalog | None, schema: str) -> dict[str, TablePolicy]:
    """Every table that may be read, as `schema.table`."""
    listed = {_qualified(name, schema): rules for name, rules in policy.table_policies.items() if name != EVERY_TABLE}
    others = policy.table_policies.get(EVERY_TABLE)
    if others is None:
        return listed
    if catalog is None:
        raise SettingsInvalid(f"the policy of {spec.database} allows every table; --connect reads which those are")
    found = {f"{table.schema}.{table.name}": others for table in catalog.tables if table.schema == schema}
    return {**found, **listed}


def _columns(catalog: Catalog | None, table: str) -> tuple[str, ...] | None:
    schema, _, name = table.partition(".")
    found = catalog.by_name.get((schema, name)) if catalog is not None else None
    return tuple(column.name for column in found.columns) if found is not None else None


def _qualified(name: str, schema: str) -> str:
    return name if "." in name else f"{schema}.{name}"
