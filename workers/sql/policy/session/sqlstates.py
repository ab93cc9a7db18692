"""Which SQLSTATE a session's client gets for a broken rule. Data and one look-up, used by decide.py.

Where the rule says what the server would say on a database without the hidden things, its code is the server's.
"""

from __future__ import annotations

_CODES = {
    "text.encoding": "22021",
    "text.too-long": "54000",
    "text.too-deep": "54001",
    "text.unicode-escape": "0A000",
    "text.hint": "0A000",
    "statement.syntax": "42601",
    "statement.multiple": "42601",
    "statement.too-complex": "54001",
    "node.unlisted": "0A000",
    "table.unlisted": "42P01",
    "column.unknown": "42703",
    "column.alias-list": "42P10",
    "session.feature": "0A000",
    "session.read-only": "25006",
    "session.value": "22023",
    "schema.needed": "0A000",
    "policy.dialect": "F0000",
    "policy.tenant": "F0000",
    "policy.filter": "F0000",
    "print.fidelity": "0A000",
    "check.failed": "XX000",
    "check.overloaded": "53000",
}
_DENIED = "42501"
"""insufficient_privilege: whatever the policy forbids."""


def sqlstate_of(rule: str) -> str:
    """The SQLSTATE of a rule."""
    return _CODES.get(rule, _DENIED)
