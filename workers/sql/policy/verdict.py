"""The one decision of this package: text, dialect, policy, catalog, tenant -> verdict.

`judge` is pure and never raises: whatever goes wrong is a deny. Called by the parser process (workers/sql/judge.py owns
it), which can be killed when a text costs too much; calling it in a service's own process gives that up.
"""

from __future__ import annotations

from sandpool.outcome import Verdict
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Dialect, Policy
from workers.sql.policy.duckdb.check import check as check_duckdb
from workers.sql.policy.postgres.check import check as check_postgres
from workers.sql.policy.prescan import scan
from workers.sql.policy.rules import Denied, deny
from workers.sql.policy.sqlite.check import check as check_sqlite
from workers.sql.policy.tables import rulebook

_CHECKS = {"postgres": check_postgres, "duckdb": check_duckdb, "sqlite": check_sqlite}


def judge(
    text: str,
    dialect: Dialect,
    policy: Policy,
    catalog: Catalog | None,
    tenant: str,
    *,
    writes: bool = False,
    headroom_rows: int = 0,
) -> Verdict:
    """The verdict on one statement; its `sql` is the only text that may run.

    `writes`: the job declares that it changes data. `headroom_rows`: rows beyond `max_rows` that the printed limit lets
    through, for a reader that stops at `max_rows` and wants to know whether there was more.
    """
    try:
        if dialect not in _CHECKS:
            deny("policy.dialect", f"no dialect {dialect!r}; known are postgres, duckdb and sqlite")
        scan(text, dialect)
        if "\0" in tenant:
            deny("text.encoding", "the tenant's name holds a NUL character, which no database can compare with")
        book = rulebook(policy, catalog, dialect)
        max_rows = None if policy.max_rows is None else policy.max_rows + headroom_rows
        printed, statement = _CHECKS[dialect](text, book, tenant, writes=writes, max_rows=max_rows)
        return Verdict(allowed=True, sql=printed, statement=statement)
    except Denied as denied:
        return Verdict(allowed=False, rule=denied.rule, reason=denied.reason)
    except (RecursionError, MemoryError):
        return Verdict(allowed=False, rule="statement.too-complex", reason="the statement nests too deeply; split it")
    except Exception as error:  # noqa: BLE001
        # Fail closed: an error in the check must never let a statement through.
        kind = type(error).__name__
        return Verdict(allowed=False, rule="check.failed", reason=f"the check failed ({kind}); rephrase in plainer SQL")
