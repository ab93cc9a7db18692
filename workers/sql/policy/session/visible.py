"""What the policy shows, as WITH queries over the server's own catalogs: the helpers that filter them, and the filtered
copy that stands in the place of each system relation.

Text only, made once for each policy and catalog by book.py. What is visible follows from the names that the policy
lists. The broker has the server compute it once for each catalog that it reads (`seen_sql`) and hands the OIDs in, as
`Catalog.seen`: computed anew in each statement it costs ten times what tools ask for. Where nobody did (a catalog from
a file) the same queries stand in the statement. Every name made here begins with `_sandpool_`, which no client's
statement may hold.

A copy is a fence: its OFFSET 0 keeps the server from using a client's conditions on rows that are not visible. Unlike a
materialized one it is computed only as far as it is read, in columns too.
"""
# ruff: noqa: S608 - constants of this package and quoted arrays only

from __future__ import annotations

import re

from workers.sql.policy.catalog import Seen
from workers.sql.policy.session.relations import BUILT_IN_SPACES, OWN_FROM, RELATIONS, Relation
from workers.sql.policy.session.settings import READABLE
from workers.sql.policy.tables import TableRule

PREFIX = "_sandpool_"
_CLASS = "'pg_catalog.pg_class'::pg_catalog.regclass"
_NOTHING = "SELECT 0::pg_catalog.oid"
"""Catalogs refer to nothing by 0, which prints as a dash."""

_HELPERS: dict[str, str] = {
    # Visible columns by number. Those that the pool's role cannot use were never in the policy's catalog.
    "columns": """
        SELECT a.attrelid AS _sandpool_oid, a.attnum AS _sandpool_number, a.atttypid AS _sandpool_type,
               l._sandpool_schema, l._sandpool_name, a.attname AS _sandpool_column
        FROM _sandpool_listed l JOIN pg_catalog.pg_attribute a ON a.attrelid = l._sandpool_oid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT (a.attname::pg_catalog.text = ANY (l._sandpool_denied))
          AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT, INSERT, UPDATE')
    """,
    # Tables without a hidden column.
    "open": """
        SELECT l._sandpool_oid, l._sandpool_schema, l._sandpool_name FROM _sandpool_listed l
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = l._sandpool_oid AND a.attnum > 0 AND NOT a.attisdropped
              AND (a.attrelid, a.attnum) NOT IN (SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c))
    """,
    # Tables whose number of rows is no secret.
    "counted": """
        SELECT l._sandpool_oid FROM _sandpool_listed l WHERE l._sandpool_is_counted
        UNION ALL
        SELECT i.indexrelid FROM pg_catalog.pg_index i JOIN _sandpool_listed l ON l._sandpool_oid = i.indrelid
        WHERE l._sandpool_is_counted
    """,
    # Composite types that a visible column has: not the row types of tables, which would show hidden ones.
    "composites": """
        SELECT t.typrelid AS _sandpool_oid, t.oid AS _sandpool_type
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_class k ON k.oid = t.typrelid AND k.relkind = 'c'
        WHERE t.oid IN (SELECT c._sandpool_type FROM _sandpool_columns c)
           OR t.typarray IN (SELECT c._sandpool_type FROM _sandpool_columns c)
    """,
    # Everything in pg_class that may be seen besides the catalogs themselves: listed tables, indexes over visible
    # columns, sequences of visible columns.
    "own_relations": f"""
        SELECT l._sandpool_oid FROM _sandpool_listed l
        UNION ALL SELECT k._sandpool_oid FROM _sandpool_composites k
        UNION ALL SELECT i.indexrelid FROM pg_catalog.pg_index i JOIN _sandpool_listed l ON l._sandpool_oid = i.indrelid
            WHERE i.indrelid IN (SELECT o._sandpool_oid FROM _sandpool_open o)
              AND ({_CLASS}, i.indexrelid) NOT IN (SELECT t._sandpool_class, t._sandpool_oid FROM _sandpool_telling t)
               OR i.indexprs IS NULL AND i.indpred IS NULL AND NOT EXISTS (
                    SELECT 1 FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) k(n)
                    WHERE (i.indrelid, k.n) NOT IN (
                        SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c))
        UNION ALL SELECT d.objid FROM pg_catalog.pg_depend d JOIN _sandpool_columns c
                ON d.refobjid = c._sandpool_oid AND d.refobjsubid = c._sandpool_number
            JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            WHERE d.classid = {_CLASS} AND d.refclassid = {_CLASS} AND d.deptype IN ('a', 'i')
        UNION ALL SELECT k.oid FROM pg_catalog.pg_class k
            WHERE k.oid >= {OWN_FROM} AND k.relnamespace IN {BUILT_IN_SPACES}
    """,
    "relations": f"""
        SELECT k.oid AS _sandpool_oid FROM pg_catalog.pg_class k
        WHERE k.oid < {OWN_FROM} AND k.relnamespace IN {BUILT_IN_SPACES}
        UNION ALL SELECT o._sandpool_oid FROM _sandpool_own_relations o UNION ALL {_NOTHING}
    """,
    # What calls a hidden function: its definition would name it.
    "telling": f"""
        SELECT d.classid AS _sandpool_class, d.objid AS _sandpool_oid FROM pg_catalog.pg_depend d
        WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= {OWN_FROM}
          AND d.refobjid NOT IN (SELECT f._sandpool_oid FROM _sandpool_own_functions f)
    """,
    # Visible columns of the listed tables that have others as well.
    "partly": """
        SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c
        WHERE c._sandpool_oid NOT IN (SELECT o._sandpool_oid FROM _sandpool_open o)
    """,
    "defaults": """
        SELECT d.adrelid AS _sandpool_oid, d.adnum AS _sandpool_number
        FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE (d.adrelid, d.adnum) IN (SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c)
          AND (a.attgenerated = '' OR d.adrelid IN (SELECT o._sandpool_oid FROM _sandpool_open o))
          AND (d.tableoid, d.oid) NOT IN (SELECT t._sandpool_class, t._sandpool_oid FROM _sandpool_telling t)
    """,
    # Types of visible columns with their elements and arrays, row types of visible relations, built-in types.
    "own_types": f"""
        SELECT t.oid AS _sandpool_oid FROM pg_catalog.pg_type t
        WHERE t.oid >= {OWN_FROM} AND t.typnamespace IN {BUILT_IN_SPACES}
        UNION SELECT x.oid FROM (
            SELECT c._sandpool_type AS oid FROM _sandpool_columns c
            UNION SELECT k._sandpool_type FROM _sandpool_composites k
            UNION SELECT k.reltype FROM pg_catalog.pg_class k
                WHERE k.oid IN (SELECT r._sandpool_oid FROM _sandpool_own_relations r)
            UNION SELECT a.atttypid FROM pg_catalog.pg_attribute a
                WHERE a.attrelid IN (SELECT k._sandpool_oid FROM _sandpool_composites k)
        ) seen
        JOIN pg_catalog.pg_type t ON t.oid = seen.oid
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
        LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
        CROSS JOIN LATERAL (
            VALUES (t.oid), (t.typarray), (e.oid), (b.oid), (b.typelem), (e.typbasetype)
        ) x(oid)
        JOIN pg_catalog.pg_type y ON y.oid = x.oid
        LEFT JOIN pg_catalog.pg_type z ON z.oid = y.typelem
        WHERE x.oid >= {OWN_FROM} AND NOT EXISTS (
            SELECT 1 FROM pg_catalog.pg_class k
            WHERE k.oid IN (y.typrelid, z.typrelid) AND k.relkind <> 'c'
              AND k.oid NOT IN (SELECT r._sandpool_oid FROM _sandpool_own_relations r))
    """,
    "types": f"""
        SELECT t.oid AS _sandpool_oid FROM pg_catalog.pg_type t
        WHERE t.oid < {OWN_FROM} AND t.typnamespace IN {BUILT_IN_SPACES}
        UNION ALL SELECT o._sandpool_oid FROM _sandpool_own_types o UNION ALL {_NOTHING}
    """,
    "spaces": """
        SELECT n.oid AS _sandpool_oid, n.nspname AS _sandpool_name FROM pg_catalog.pg_namespace n
        WHERE n.nspname = ANY ({spaces}::pg_catalog.text[])
    """,
    "own_functions": f"""
        SELECT p.oid AS _sandpool_oid FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE p.oid >= {OWN_FROM} AND (
              p.pronamespace IN {BUILT_IN_SPACES}
           OR p.proname = ANY ({{functions}}::pg_catalog.text[])
           OR n.nspname || '.' || p.proname = ANY ({{functions}}::pg_catalog.text[]))
    """,
    "functions": f"""
        SELECT p.oid AS _sandpool_oid FROM pg_catalog.pg_proc p
        WHERE p.oid < {OWN_FROM} AND p.pronamespace IN {BUILT_IN_SPACES}
        UNION ALL SELECT o._sandpool_oid FROM _sandpool_own_functions o UNION ALL {_NOTHING}
    """,
    # Constraints over visible columns that refer to visible columns.
    "constraints": """
        SELECT k.oid AS _sandpool_oid FROM pg_catalog.pg_constraint k
        WHERE k.contype <> 't'
          AND (k.conrelid IN (SELECT l._sandpool_oid FROM _sandpool_listed l)
               OR k.contypid <> 0 AND k.contypid IN (SELECT t._sandpool_oid FROM _sandpool_types t))
          AND (k.conrelid IN (SELECT o._sandpool_oid FROM _sandpool_open o) OR NOT EXISTS (
                SELECT 1 FROM pg_catalog.unnest(k.conkey) x(n)
                WHERE (k.conrelid, x.n) NOT IN (SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c)))
          AND (k.confrelid = 0 OR k.confrelid IN (SELECT l._sandpool_oid FROM _sandpool_listed l) AND NOT EXISTS (
                SELECT 1 FROM pg_catalog.unnest(k.confkey) x(n)
                WHERE (k.confrelid, x.n) NOT IN (SELECT c._sandpool_oid, c._sandpool_number FROM _sandpool_columns c)))
          AND (k.conindid = 0 OR k.conindid IN (SELECT r._sandpool_oid FROM _sandpool_relations r))
          AND (k.tableoid, k.oid) NOT IN (SELECT t._sandpool_class, t._sandpool_oid FROM _sandpool_telling t)
    """,
    # information_schema makes up a name for each NOT NULL, from the OIDs of schema and table.
    "constraint_names": """
        SELECT n.nspname::pg_catalog.text AS _sandpool_schema, k.conname::pg_catalog.text AS _sandpool_name
        FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace
        WHERE k.oid IN (SELECT c._sandpool_oid FROM _sandpool_constraints c)
        UNION ALL
        SELECT c._sandpool_schema::pg_catalog.text,
               r.relnamespace || '_' || c._sandpool_oid || '_' || c._sandpool_number || '_not_null'
        FROM _sandpool_columns c JOIN pg_catalog.pg_class r ON r.oid = c._sandpool_oid
    """,
    "index_names": """
        SELECT l._sandpool_schema, k.relname AS _sandpool_name
        FROM pg_catalog.pg_index i JOIN _sandpool_listed l ON l._sandpool_oid = i.indrelid
        JOIN pg_catalog.pg_class k ON k.oid = i.indexrelid
        WHERE k.oid IN (SELECT r._sandpool_oid FROM _sandpool_relations r)
    """,
    # The session's own role and database, as OIDs.
    "roles": "SELECT r.oid AS _sandpool_oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
    "databases": "SELECT d.oid AS _sandpool_oid FROM pg_catalog.pg_database d WHERE d.datname = current_catalog",
    "collations": f"""
        SELECT c.oid AS _sandpool_oid FROM pg_catalog.pg_collation c WHERE c.collnamespace IN {BUILT_IN_SPACES}
    """,
    "settings": """
        SELECT s.name AS _sandpool_name FROM pg_catalog.unnest({settings}::pg_catalog.text[]) s(name)
    """,
    "comments": f"""
        SELECT r.objoid AS _sandpool_oid, r.classoid AS _sandpool_class, r.objsubid AS _sandpool_number,
               r.description AS _sandpool_text
        FROM pg_catalog.pg_description r WHERE {RELATIONS["pg_catalog", "pg_description"].filter}
    """,
}
_NUMBERS, _TEXTS, _NAMES = ("oid", "oid"), ("text", "text"), ("text", "name")
SEEN: dict[str, dict[str, tuple[str, str]]] = {
    "listed": {
        "oid": _NUMBERS, "schema": _NAMES, "name": _NAMES, "denied": ("text", "text[]"), "is_counted": ("bool", "bool"),
    },
    "open": {"oid": _NUMBERS, "schema": _NAMES, "name": _NAMES},
    "partly": {"oid": _NUMBERS, "number": ("int2", "int2")},
    "defaults": {"oid": _NUMBERS, "number": ("int2", "int2")},
    **{name: {"oid": _NUMBERS} for name in ("counted", "own_relations", "own_types", "own_functions", "constraints")},
}  # fmt: skip
"""Helpers whose rows are handed in as constants: their columns, the type in which those travel, and their own."""
_INLINE = frozenset({"relations", "types", "functions", "comments", *SEEN})
"""Looked up by OID: the server may do so by its indexes. Only templates of ours read them, by nothing but OIDs."""
_USES = re.compile(rf"\b{PREFIX}(\w+)")


def helper_texts(
    tables: list[TableRule],
    spaces: list[str],
    functions: list[str],
    system: dict[tuple[str, str], TableRule],
    seen: Seen = (),
) -> dict[str, str]:
    """Name of a WITH query, with its prefix -> its text: helpers and filtered relations. `system`: the relations that
    the server has; `seen`: what `seen_sql` answered."""
    listed = f"""
        SELECT k.oid AS _sandpool_oid, n.nspname AS _sandpool_schema, k.relname AS _sandpool_name,
               u.denied::pg_catalog.text[] AS _sandpool_denied, u.counted AS _sandpool_is_counted
        FROM ROWS FROM (
            pg_catalog.unnest({_array([rule.schema for rule in tables])}::pg_catalog.text[]),
            pg_catalog.unnest({_array([rule.name for rule in tables])}::pg_catalog.text[]),
            pg_catalog.unnest({_array([_array_text(sorted(rule.denied)) for rule in tables])}::pg_catalog.text[]),
            pg_catalog.unnest({_array(["t" if rule.filter is None else "f" for rule in tables])}::pg_catalog.bool[])
        ) AS u(schema, name, denied, counted)
        JOIN pg_catalog.pg_namespace n ON n.nspname = u.schema
        JOIN pg_catalog.pg_class k ON k.relnamespace = n.oid AND k.relname = u.name
            AND k.relkind IN ('r', 'p', 'v', 'm', 'f')
    """
    values = {"spaces": _array(spaces), "functions": _array(functions), "settings": _array(sorted(READABLE))}
    texts = {f"{PREFIX}listed": listed}
    for name, text in _HELPERS.items():
        texts[PREFIX + name] = text.format(**values) if "{" in text else text
    texts |= {PREFIX + name: _constant(SEEN[name], columns) for name, columns in seen if name in SEEN}
    for (schema, name), relation in RELATIONS.items():
        rule = system.get((schema, name))
        if rule is not None:
            targets = ", ".join(_target(relation, column, rule.types[column]) for column in rule.columns or ())
            texts[copy_name(schema, name)] = (
                f'SELECT {targets} FROM {schema}."{name}" r WHERE {relation.filter} OFFSET 0'
            )
    return texts


def seen_sql(texts: dict[str, str]) -> str:
    """The query that computes what is visible now: rows of a helper's name and its columns as texts of arrays. `texts`:
    without anything seen."""
    names = [PREFIX + name for name in SEEN]
    queries = ", ".join(f"{name} AS MATERIALIZED ({texts[name]})" for name in needed(set(names), texts))
    rows = " UNION ALL ".join(
        f"SELECT '{name}', ARRAY[" + ", ".join(_gathered(name, column) for column in columns) + "]"
        for name, columns in SEEN.items()
    )
    return f"WITH {queries} {rows}"


def _gathered(helper: str, column: str) -> str:
    travels, _ = SEEN[helper][column]
    order = ", ".join(f"{PREFIX}{each}" for each in SEEN[helper] if each in ("oid", "number"))
    array = f"pg_catalog.array_agg({PREFIX}{column}::pg_catalog.{travels} ORDER BY {order})::pg_catalog.text"
    return f"(SELECT COALESCE({array}, '{{}}') FROM {PREFIX}{helper})"


def _constant(columns: dict[str, tuple[str, str]], values: tuple[str, ...]) -> str:
    """A helper whose rows are known."""
    arrays = (
        f"pg_catalog.unnest({_quoted(value)}::pg_catalog.{travels}[])"
        for value, (travels, _) in zip(values, columns.values(), strict=True)
    )
    targets = (f"u.{column}::pg_catalog.{own} AS {PREFIX}{column}" for column, (_, own) in columns.items())
    return f"SELECT {', '.join(targets)} FROM ROWS FROM ({', '.join(arrays)}) AS u({', '.join(columns)})"


def is_inline(name: str, seen: Seen) -> bool:
    """Whether the server may compute this WITH query where it is used, as far as it is."""
    if name.startswith((f"{PREFIX}pg_catalog_", f"{PREFIX}information_schema_")):
        return True
    helper = name.removeprefix(PREFIX)
    return helper in _INLINE and (helper not in SEEN or bool(seen))


def _target(relation: Relation, column: str, type_name: str) -> str:
    """A column of a copy. One of a type that prints names is shown as its number: any number beside it would print
    too."""
    if column in relation.masks:
        return f'{relation.masks[column]} AS "{column}"'
    if type_name.startswith("reg"):
        bounds = "[]" if type_name.endswith("[]") else ""
        return f'r."{column}"::pg_catalog.oid{bounds} AS "{column}"'
    return f'r."{column}"'


def copy_name(schema: str, name: str) -> str:
    """The WITH query that stands for a system relation."""
    return f"{PREFIX}{schema}_{name}"


def needed(names: set[str], texts: dict[str, str]) -> list[str]:
    """These WITH queries and those that they use, each after what it uses."""
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            for used in dict.fromkeys(_USES.findall(texts[name])):
                if PREFIX + used in texts and PREFIX + used != name:
                    add(PREFIX + used)
            order.append(name)

    for name in sorted(names):
        add(name)
    return order


def _array(values: list[str]) -> str:
    """An array of texts as an SQL constant."""
    return _quoted(_array_text(values))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _array_text(values: list[str]) -> str:
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
