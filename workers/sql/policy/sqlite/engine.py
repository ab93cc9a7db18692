"""An empty SQLite database with the catalog's tables, which compiles statements and tells what they would do.

Compiling (`EXPLAIN`) runs nothing, and the authorizer names every table, column and function that the statement would
really read, however it is written. Used by check.py only.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import NoReturn

from workers.sql.policy.rules import deny, shown

_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_COUNT = re.compile(r"uses (\d+), and there are \d+ supplied")


class Engine:
    """One in-memory database; not for several threads at once."""

    def __init__(self, tables: Iterable[tuple[str, Iterable[tuple[str, str]]]], functions: Iterable[str] = ()) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, cached_statements=0)
        for name, columns in tables:
            members = ", ".join(
                f"{quoted(column)} {kind if _PLAIN_TYPE.fullmatch(kind) else ''}" for column, kind in columns
            )
            self._database.execute(f"CREATE TABLE {quoted(name)} ({members})")
        for function in functions:
            # Only its name matters: nothing is ever run here.
            self._database.create_function(function, -1, lambda *_: None)
        self._database.text_factory = bytes
        modules = self._database.execute("SELECT name FROM pragma_module_list").fetchall()
        self.modules = frozenset(name.decode().lower() for (name,) in modules)
        """Virtual tables that exist without being created."""
        # Their first use looks into sqlite_master, which the authorizer must not allow later.
        self._database.execute("SELECT count(*) FROM json_each('[]'), json_tree('[]')").fetchall()
        self._actions: list[tuple[int, str | None, str | None]] = []
        self._database.set_authorizer(self._note)

    def _note(
        self, action: int, first: str | None, second: str | None, _database: str | None, _source: str | None
    ) -> int:
        self._actions.append((action, first, second))
        return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY

    def compile(self, text: str) -> tuple[set[tuple[str, str]], set[str]]:
        """The (table, column) pairs that a text would read, and the functions that it would call. Raises Denied."""
        self._actions.clear()
        try:
            self._explain(text)
        except sqlite3.Error as error:
            self._explain_refusal(error)
        reads = {
            (a.lower(), (b or "").lower()) for action, a, b in self._actions if action == sqlite3.SQLITE_READ and a
        }
        calls = {b.lower() for action, _, b in self._actions if action == sqlite3.SQLITE_FUNCTION and b}
        return reads, calls

    def _explain(self, text: str) -> None:
        statement = "EXPLAIN " + text
        try:
            self._database.execute(statement).close()
        except sqlite3.ProgrammingError as error:
            wanted = _COUNT.search(str(error))
            if wanted is None:
                raise
            self._database.execute(statement, (None,) * int(wanted[1])).close()

    def _explain_refusal(self, error: sqlite3.Error) -> NoReturn:
        message = str(error)
        if any(name and name.lower().startswith(("sqlite_", "pragma_")) for _, name, _ in self._actions):
            deny("table.system", "metadata (sqlite_*, pragma_*) may not be read; ask Sandpool for the schema")
        refused = next((action for action, _, _ in self._actions if action not in _READS), None)
        if refused in _WRITES:
            deny("write.unsupported", "writes are not supported in this dialect; only queries are")
        if refused is not None:
            deny("statement.kind", "only queries are allowed: no PRAGMA, ATTACH, transactions or definitions")
        if "one statement at a time" in message:
            deny("statement.multiple", "there is more than one statement; send them one by one")
        table = re.match(r"no such table: (.*)", message)
        if table is not None:
            if table[1].lower().removeprefix("main.").startswith(("sqlite_", "pragma_", "dbstat")):
                deny(
                    "table.system",
                    f"{shown(table[1])!r} is metadata, which queries may not read; ask Sandpool for the schema",
                )
            deny("table.unlisted", f"no table {shown(table[1])!r} may be used")
        if message.startswith("no such column"):
            deny("column.unknown", f"{shown(message)}; use the columns that the schema lists")
        if message.startswith(("no such function", "not authorized to use function", "no such table-valued")):
            deny("function.unlisted", f"{shown(message)}; leave it out")
        if "too deep" in message or "too many" in message or "too large" in message or "stack overflow" in message:
            deny("statement.too-complex", "the statement is too large or nests too deeply; split it")
        if message.startswith("cannot join using column"):
            deny("column.denied", f"{shown(message)}; leave it out")
        deny("statement.syntax", f"SQLite refuses it: {shown(message, 200)}")


_PLAIN_TYPE = re.compile(r"[A-Za-z0-9_ (),]*")


def quoted(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'
