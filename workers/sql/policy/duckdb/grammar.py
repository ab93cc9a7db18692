"""DuckDB's own parser and printer, through json_serialize_sql and json_deserialize_sql of an empty in-memory database.

Trees are dicts without positions and without empty or default members. Queries only: DuckDB serialises nothing else.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import duckdb
import msgspec

from workers.sql.policy.rules import deny, shown

Tree = dict[str, Any]

_LOCATIONS = re.compile(rb',?"query_location(?:_length)?":\d+')
_DECODER = msgspec.json.Decoder(dict)
_PARSE = "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_PRINT = "SELECT json_deserialize_sql(?::JSON)"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": "1",
    "memory_limit": "512MB",
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}
_engines = threading.local()
_OTHER_KINDS = re.compile(
    r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(insert|update|delete|merge)\b", re.IGNORECASE | re.DOTALL
)


def parse(text: str) -> list[Tree]:
    """The query nodes of a text. Raises Denied when DuckDB cannot parse it or it is no query."""
    answer = _decode(_run(_PARSE, text))
    if answer.get("error"):
        message = shown(answer.get("error_message", ""), 200)
        if answer.get("error_type") == "not implemented":
            if len(duckdb.extract_statements(text)) > 1:
                deny("statement.multiple", "there is more than one statement; send them one by one")
            if _OTHER_KINDS.match(text):
                deny("write.unsupported", "writes are not supported in this dialect; only queries are")
            deny(
                "statement.kind",
                "only queries are allowed; a PIVOT lists its values: PIVOT t ON c IN ('a', 'b') USING sum(x)",
            )
        deny("statement.syntax", f"not DuckDB SQL: {message}")
    statements: list[Tree] = [entry["node"] for entry in answer["statements"]]
    return statements


def print_tree(node: Tree) -> str:
    """The text of one query node, as DuckDB prints it."""
    document = msgspec.json.encode({"error": False, "statements": [{"node": node}]}).decode()
    try:
        return _run(_PRINT, document)
    except duckdb.Error:
        deny("print.fidelity", "the statement cannot be printed again without changing it; rephrase it in plainer SQL")


def select_of(expression: Tree) -> Tree:
    """A query whose only column is this expression."""
    return {
        "type": "SELECT_NODE",
        "cte_map": {},
        "select_list": [expression],
        "from_table": {"type": "EMPTY"},
        "aggregate_handling": "STANDARD_HANDLING",
    }


def _run(statement: str, argument: str) -> str:
    engine = getattr(_engines, "engine", None)
    if engine is None:
        engine = _engines.engine = duckdb.connect(":memory:", config=_CONFIG)
    row = engine.execute(statement, [argument]).fetchone()
    return str(row[0]) if row else ""


def _decode(document: str) -> Tree:
    answer: Tree = _DECODER.decode(_LOCATIONS.sub(b"", document.encode()).replace(b"{,", b"{"))
    return answer
