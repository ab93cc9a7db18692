"""May code have a database file whole? Pure: (policy, engine) -> what the policy keeps back, or nothing.

Asked before a file is put into a sandbox, where nobody judges what is read of it: every row, column and table of it is
open there. So only a policy that permits all of that lets the file go. Ceilings on rows, bytes and time are of one
statement and hide nothing, so they count for statements only.
"""

from __future__ import annotations

from workers.sql.policy.document import EVERY_TABLE, Dialect, Policy, TablePolicy

OPEN = TablePolicy()


def keeps_back(policy: Policy, engine: Dialect) -> str:
    """What of a file of this engine the policy does not show, in a few words; empty where it shows everything."""
    if policy.dialect not in (None, engine):
        return f"its policy is for {policy.dialect} only"
    if EVERY_TABLE not in policy.table_policies:
        return "its policy lists the tables that may be read"
    for name, table in policy.table_policies.items():
        # Compared as a whole: what a policy may say of a table some day is a restriction until this knows better.
        if table.model_copy(update={"fence": OPEN.fence}) != OPEN:
            return f"its policy restricts {'every table' if name == EVERY_TABLE else f'the table {name}'}"
    return ""
