"""The ledger of writes: one row per committed write, in the same database and the same transaction as the write itself.

`write` uses the statements, `harden` prints the table and its grants, `role` lets a writing role have them.
"""

from __future__ import annotations

LEDGER_SCHEMA = "public"
LEDGER_TABLE = "sandpool_jobs"
LEDGER = f"{LEDGER_SCHEMA}.{LEDGER_TABLE}"

CREATE_SQL = f"""\
CREATE TABLE IF NOT EXISTS {LEDGER} (
    job_id        text,
    tenant        text,
    digest        text NOT NULL,
    statement     text NOT NULL,
    rows_affected bigint,
    manifest      text,
    committed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, tenant)
);"""
"""`statement` is the text that ran, `manifest` the JSON of the result that was written before the commit. The tenant is
part of the key: a job id is chosen by its tenant, and must neither block nor reveal another tenant's."""

CLAIM_SQL = f"""
    INSERT INTO {LEDGER} (job_id, tenant, digest, statement) VALUES ($1, $2, $3, $4)
    ON CONFLICT (job_id, tenant) DO NOTHING RETURNING job_id
"""  # noqa: S608 - constants of this package
FIND_SQL = f"SELECT digest, manifest FROM {LEDGER} WHERE job_id = $1 AND tenant = $2"  # noqa: S608 - constants of this package
FILL_SQL = f"UPDATE {LEDGER} SET rows_affected = $3, manifest = $4 WHERE job_id = $1 AND tenant = $2"  # noqa: S608 - constants of this package

GRANTS = ("SELECT", "INSERT (job_id, tenant, digest, statement)", "UPDATE (rows_affected, manifest)")
PRIVILEGES = ("SELECT", "INSERT", "UPDATE")
