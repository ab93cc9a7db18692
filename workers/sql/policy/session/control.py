"""Statements that steer a session: transactions, settings, cursors to close, what pools send between clients.

Called by decide.py with the parsed tree. What the broker carries out becomes `Own`, what needs no server `Answer`; what
would reach beyond the session is refused, by name where tools send it.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.sql.policy.postgres.grammar import print_tree
from workers.sql.policy.postgres.walk import Node
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.session.meaning import is_settled
from workers.sql.policy.session.settings import ISOLATION_LEVELS, READABLE, decide_setting
from workers.sql.policy.session.verdict import Answer, Forward, Own, SessionFacts
from workers.sql.policy.tables import Rulebook

_Control = Own | Answer | Forward

_BEGIN = {"TRANS_STMT_BEGIN": "BEGIN", "TRANS_STMT_START": "START TRANSACTION"}
_NAMED = {
    "TRANS_STMT_SAVEPOINT": ("savepoint", "SAVEPOINT"),
    "TRANS_STMT_RELEASE": ("release", "RELEASE"),
    "TRANS_STMT_ROLLBACK_TO": ("rollback-to", "ROLLBACK"),
}
_IDENTITY = frozenset({"role", "session_authorization"})


def read_control(kind: str, message: Node, facts: SessionFacts, book: Rulebook) -> _Control | None:
    """What to do with a statement of this kind; None when it is none of session control. Raises Denied."""
    control = _CONTROLS.get(kind)
    return control(message, facts, book) if control is not None else None


# --- transactions ----------------------------------------------------------------------------------------------------


def _transaction(message: Node, facts: SessionFacts, _book: Rulebook) -> _Control:
    kind = message["kind"]
    sql = print_tree({"TransactionStmt": message})
    if kind in _BEGIN:
        isolation, read_only, deferrable = _modes(message.get("options", []), facts)
        modes = {"isolation": isolation, "read_only": read_only, "deferrable": deferrable}
        return Own("begin", _BEGIN[kind], sql=sql, **modes)  # type: ignore[arg-type]
    if kind == "TRANS_STMT_COMMIT":
        return Own("commit", "COMMIT", sql=sql, chain=bool(message.get("chain")))
    if kind == "TRANS_STMT_ROLLBACK":
        return Own("rollback", "ROLLBACK", sql=sql, chain=bool(message.get("chain")))
    if kind in _NAMED:
        verb, tag = _NAMED[kind]
        return Own(verb, tag, sql=sql, name=message["savepoint_name"])  # type: ignore[arg-type]
    raise Denied("session.feature", "two-phase commit is not available here; use COMMIT")


def _modes(options: list[Node], facts: SessionFacts) -> tuple[str, bool | None, bool | None]:
    """Isolation (empty: not said), read-only, deferrable of a list of transaction modes."""
    isolation, read_only, deferrable = "", None, None
    for option in options:
        element = option["DefElem"]
        constant = element["arg"]["A_Const"]
        if element["defname"] == "transaction_isolation":
            isolation = constant["sval"]["sval"]
            if isolation not in ISOLATION_LEVELS:
                deny("statement.syntax", f"{shown(isolation)!r} is no isolation level")
        elif element["defname"] == "transaction_read_only":
            read_only = bool(constant["ival"].get("ival", 0))
            if not read_only and not facts.writes:
                deny("session.read-only", "this session may only read: leave READ WRITE out")
        elif element["defname"] == "transaction_deferrable":
            deferrable = bool(constant["ival"].get("ival", 0))
        else:
            deny("node.unlisted", f"the transaction mode {shown(element['defname'])!r} is not known here")
    return isolation, read_only, deferrable


# --- settings --------------------------------------------------------------------------------------------------------


def _set(message: Node, facts: SessionFacts, book: Rulebook) -> _Control:
    kind = message["kind"]
    is_local = bool(message.get("is_local"))
    name = message.get("name", "").lower()
    if kind == "VAR_SET_MULTI":
        return _set_modes(message, facts)
    if kind == "VAR_RESET_ALL":
        return Own("reset", "RESET")
    if kind == "VAR_SET_CURRENT":
        deny("session.setting", "SET ... FROM CURRENT is for functions; leave it out")
    tag = "RESET" if kind == "VAR_RESET" else "SET"
    if name in _IDENTITY:
        own = {"role": ("none",), "session_authorization": ("default",)}[name]
        if kind != "VAR_SET_VALUE" or (name == "role" and _values(message) in own):
            return Answer((), (), tag)  # it is nobody else already
        deny("session.identity", "a session keeps the identity that it began with; leave the statement out")
    if kind in ("VAR_RESET", "VAR_SET_DEFAULT"):
        return Own("reset", tag, name=name, is_local=is_local)
    value = _values(message)
    kept = decide_setting(name, value, book.search_path, writes=facts.writes, is_settled=is_settled(book))
    return Answer((), (), tag) if kept is None else Own("set", tag, settings=((name, kept),), is_local=is_local)


def _values(message: Node) -> str:
    """The arguments of SET as one text."""
    return ", ".join(_value(argument) for argument in message.get("args", ()))


def _value(argument: Node) -> str:
    if "TypeCast" in argument:  # SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE
        argument = argument["TypeCast"]["arg"]
    constant = argument.get("A_Const")
    if constant is None:
        deny("session.value", "a setting's value must be a constant")
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "boolval" in constant:
        return "on" if constant["boolval"].get("boolval") else "off"
    text = constant.get("sval", constant.get("fval", {}))
    return str(text.get("sval", text.get("fval", "")))


def _set_modes(message: Node, facts: SessionFacts) -> _Control:
    name = message["name"]
    if name == "TRANSACTION SNAPSHOT":
        deny("session.feature", "snapshots of other sessions cannot be used here; leave the statement out")
    isolation, read_only, deferrable = _modes(message.get("args", []), facts)
    said = {"isolation": isolation, "read_only": read_only, "deferrable": deferrable}
    words = {
        mode: value if isinstance(value, str) else "on" if value else "off"
        for mode, value in said.items()
        if value not in ("", None)
    }
    is_local = name == "TRANSACTION"
    prefix = "transaction_" if is_local else "default_transaction_"
    settings = tuple((prefix + mode, word) for mode, word in words.items())
    sql = print_tree({"VariableSetStmt": message}) if is_local else ""
    return Own("set", "SET", sql=sql, settings=settings, is_local=is_local)


def _show(message: Node, _facts: SessionFacts, _book: Rulebook) -> _Control:
    name = message["name"].lower()
    if name == "all":
        deny("session.setting", "SHOW ALL tells about the server; SHOW the settings one by one")
    if name in _IDENTITY:
        value = "session_user" if name == "session_authorization" else "'none'::text"
        return Own("show", "SHOW", name=name, sql=f"SELECT {value} AS {name}")
    if name not in READABLE:
        deny("session.setting", f"the setting {shown(name)} may not be read in this session")
    shown_name = '"' + message["name"].replace('"', '""') + '"'
    return Own("show", "SHOW", name=name, sql=f"SELECT pg_catalog.current_setting('{name}') AS {shown_name}")


# --- cursors, prepared statements, notifications ---------------------------------------------------------------------


def _close(message: Node, _facts: SessionFacts, _book: Rulebook) -> _Control:
    sql = print_tree({"ClosePortalStmt": message})
    if "portalname" not in message:
        return Own("close-all", "CLOSE CURSOR ALL", sql=sql)
    return Forward(sql, "close")


def _fetch(message: Node, _facts: SessionFacts, _book: Rulebook) -> _Control:
    return Forward(print_tree({"FetchStmt": message}), "move" if message.get("ismove") else "fetch")


def _deallocate(message: Node, _facts: SessionFacts, _book: Rulebook) -> _Control:
    tag = "DEALLOCATE" if "name" in message else "DEALLOCATE ALL"
    return Own("deallocate", tag, name=message.get("name", ""))


def _discard(message: Node, _facts: SessionFacts, _book: Rulebook) -> _Control:
    target = message["target"].removeprefix("DISCARD_")
    if target == "ALL":
        return Own("discard", "DISCARD ALL")
    return Answer((), (), f"DISCARD {target}")


def _refuse(rule: str, reason: str) -> Callable[[Node, SessionFacts, Rulebook], _Control]:
    return lambda _message, _facts, _book: deny(rule, reason)


_CONTROLS: dict[str, Callable[[Node, SessionFacts, Rulebook], _Control]] = {
    "TransactionStmt": _transaction,
    "VariableSetStmt": _set,
    "VariableShowStmt": _show,
    "ClosePortalStmt": _close,
    "FetchStmt": _fetch,
    "DeallocateStmt": _deallocate,
    "DiscardStmt": _discard,
    "UnlistenStmt": lambda _message, _facts, _book: Answer((), (), "UNLISTEN"),
    "ListenStmt": _refuse("session.feature", "notifications do not reach sessions of the broker; poll a table"),
    "NotifyStmt": _refuse("session.feature", "notifications would reach other sessions; leave the statement out"),
    "PrepareStmt": _refuse("session.feature", "PREPARE as SQL is not available; use the driver's prepared statements"),
    "ExecuteStmt": _refuse("session.feature", "EXECUTE as SQL is not available; use the driver's prepared statements"),
    "ExplainStmt": _refuse(
        "session.feature", "EXPLAIN shows filters and statistics that the policy hides; Sandpool has a verb for plans"
    ),
    "LockStmt": _refuse("statement.locking", "LOCK TABLE would stop other sessions; leave it out"),
    "DoStmt": _refuse("statement.kind", "DO blocks run code on the server and are not allowed; send the queries"),
    "CallStmt": _refuse("statement.kind", "procedures are not allowed; send the queries"),
    "LoadStmt": _refuse("statement.kind", "LOAD runs code on the server and is not allowed"),
}
