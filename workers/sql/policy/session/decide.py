"""The one decision for sessions of the broker: text, facts, policy, catalog, tenant -> what the broker does.

The verdicts on queries and writes are those of jobs (policy/postgres); what comes on top is what only sessions send:
transactions, settings, cursors, COPY and reads of system catalogs. `judge_session` is pure and never raises. Called by
the parser process.
"""

from __future__ import annotations

from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.query import read_query
from workers.sql.policy.postgres.walk import Node, Walk, kind_of
from workers.sql.policy.postgres.writes import WRITES, read_write
from workers.sql.policy.prescan import scan
from workers.sql.policy.rules import Denied, deny
from workers.sql.policy.session.book import SessionRulebook, session_rulebook
from workers.sql.policy.session.contexts import contexts
from workers.sql.policy.session.control import read_control
from workers.sql.policy.session.copying import read_copy
from workers.sql.policy.session.guards import GUARDS
from workers.sql.policy.session.sqlstates import sqlstate_of
from workers.sql.policy.session.stand_ins import check_session_query
from workers.sql.policy.session.verdict import Answer, Forward, Own, Refuse, SessionFacts, SessionVerdict, Several
from workers.sql.policy.session.visible import PREFIX

_EMPTY = Answer((), (), "")
_UNLOCK_ALL = parse("SELECT pg_advisory_unlock_all()")[0]
_UNLOCKED = Answer(("pg_advisory_unlock_all",), (("",),), "SELECT 1")
"""Nobody can take an advisory lock here, so there is none to give back."""
_HOLD = 0x20
_CURSOR_OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x100
"""BINARY, SCROLL, NO SCROLL, INSENSITIVE, ASENSITIVE and the parser's own mark."""
_MOST_PARTS = 32


def judge_session(
    text: str, facts: SessionFacts, policy: Policy, catalog: Catalog | None, tenant: str
) -> SessionVerdict:
    """What the broker does with a Query or Parse message of this text."""
    try:
        scan(text, "postgres")
        if PREFIX in text.lower():
            deny("node.unlisted", f"names that begin with {PREFIX} are Sandpool's own; use other names")
        if "\0" in tenant:
            deny("text.encoding", "the tenant's name holds a NUL character, which no database can compare with")
        book = session_rulebook(policy, catalog)
        statements = parse(text)
        if not statements:
            return _EMPTY
        if len(statements) > 1:
            return _several(statements, facts, book, tenant)
        return _one(statements[0], facts, book, tenant)
    except Denied as denied:
        return Refuse(sqlstate_of(denied.rule), denied.rule, denied.reason)
    except (RecursionError, MemoryError):
        rule = "statement.too-complex"
        return Refuse(sqlstate_of(rule), rule, "the statement nests too deeply; split it")
    except Exception as error:  # noqa: BLE001
        # Fail closed: an error in the check must never let a statement through.
        rule = "check.failed"
        kind = type(error).__name__
        return Refuse(sqlstate_of(rule), rule, f"the check failed ({kind}); rephrase in plainer SQL")


def _several(statements: list[Node], facts: SessionFacts, book: SessionRulebook, tenant: str) -> Several:
    """What drivers send as one string to set up or clean a session, or to read catalogs, after BEGIN perhaps. Anything
    that touches data goes one by one."""
    if facts.protocol != "simple" or len(statements) > _MOST_PARTS:
        deny("statement.multiple", f"there are {len(statements)} statements; send them one by one")
    parts: list[Forward | Own | Answer] = []
    for statement in statements:
        is_begin = not parts and kind_of(statement) == "TransactionStmt"
        if not is_begin and kind_of(statement) not in _HARMLESS:
            deny("statement.multiple", f"there are {len(statements)} statements; send them one by one")
        part = _one(statement, facts, book, tenant)
        if (is_begin and not (isinstance(part, Own) and part.verb == "begin")) or (
            isinstance(part, Forward) and not part.is_catalog
        ):
            deny("statement.multiple", f"there are {len(statements)} statements; send them one by one")
        parts.append(part)
    return Several(tuple(parts))


_HARMLESS = frozenset({
    "SelectStmt", "VariableSetStmt", "VariableShowStmt", "ClosePortalStmt", "DeallocateStmt", "DiscardStmt",
    "UnlistenStmt",
})  # fmt: skip


def _one(statement: Node, facts: SessionFacts, book: SessionRulebook, tenant: str) -> Forward | Own | Answer:
    kind = kind_of(statement)
    message = statement[kind]
    control = read_control(kind, message, facts, book)
    if control is not None:
        return control
    if statement == _UNLOCK_ALL:
        return _UNLOCKED
    databases = frozenset({facts.database, book.database}) - {""}
    walk = Walk(book, tenant, facts.writes, read_query, read_write, GUARDS, databases, contexts(statement))
    max_rows = book.policy.max_rows
    if kind == "CopyStmt":
        return read_copy(message, walk, max_rows)
    if kind == "DeclareCursorStmt":
        return _declare(message, walk, max_rows)
    if kind not in WRITES and kind != "SelectStmt":
        name = kind.removesuffix("Stmt")
        deny("statement.kind", f"{name} statements are not allowed in this session; only queries and listed writes are")
    if kind in WRITES and not facts.writes:
        deny("session.read-only", "this session may only read: the policy lists no writes for it")
    return check_session_query(statement, walk, max_rows)


def _declare(message: Node, walk: Walk, max_rows: int | None) -> Forward:
    options = message.get("options", 0)
    if options & _HOLD:
        deny("session.feature", "cursors WITH HOLD outlive their transaction, connections do not; leave WITH HOLD out")
    if options & ~_CURSOR_OPTIONS or message.keys() - {"portalname", "options", "query"}:
        deny("node.unlisted", "this form of DECLARE is not known here; write DECLARE name CURSOR FOR query")
    if "SelectStmt" not in message["query"]:
        deny("statement.kind", "cursors are for queries only")
    return check_session_query(
        message["query"],
        walk,
        max_rows,
        "declare",
        wrap=lambda tree: {"DeclareCursorStmt": {**message, "query": tree}},
        unwrap=lambda tree: tree["DeclareCursorStmt"]["query"],
    )
