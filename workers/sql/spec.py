"""What a pool is told about its database: name, address, budget, settings. Data only, built by cluster.settings.

The DSN is the database's credential: it stands in no repr, log line, error or pickle that leaves the pool's process
other than the one that started it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

PINNED_SETTINGS: dict[str, str] = {
    # Values travel as text or binary in exactly these forms; a role's or database's own defaults must not change them.
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "xmloption": "content",
    # What an unqualified name means, which the policy's catalog assumes.
    "search_path": "public",
    # A backend whose client is gone stops its statement within this time instead of finishing it for nobody.
    "client_connection_check_interval": "2s",
    "default_transaction_read_only": "on",
    "row_security": "on",
}
"""Startup parameters of every connection: RESET ALL and DISCARD ALL return to these, not to the role's defaults."""


_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker of a pool is told."""

    policy: str
    """The policy as JSON."""
    max_bytes: int = 0
    """Of one result; 0: no limit."""
    doors: str = ""
    """Folder of the control sockets by which hosts of this node ask for doors; empty: there is no host."""


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One registered PostgreSQL database as its pool sees it."""

    database: str
    """Registered name, which jobs use; not the name in the DSN."""
    dsn: str
    """`postgresql://user:password@host:port/name`. Secret."""
    budget: int = 8
    """Most server connections of this pool, small and bulk reads together."""
    bulk_budget: int = 2
    """Most of them that may stream large results at once, so that extracts never starve small statements."""
    wire_budget: int = 0
    """Most of them that sessions of the broker may hold; 0: all but a quarter, which open transactions in sandboxes can
    then never keep from jobs."""
    writes: bool = False
    """The role may change data where `write_tables` says so; False: the pool refuses a role that can."""
    write_tables: dict[str, tuple[str, ...]] = {}
    """`schema.table` -> privileges among INSERT, UPDATE, DELETE that the role may hold there. Used when `writes`."""
    settings: dict[str, str] = {}
    """More pinned server settings (or other values for those above), for example `search_path`."""
    connect_timeout_s: float = 5.0
    acquire_timeout_s: float = 30.0
    """Longest wait for a free connection; a job whose own time limit is shorter waits no longer than that."""
    lock_timeout_s: float = 5.0
    session_statement_s: float = 300.0
    """Longest statement of a broker's session."""
    session: SessionSpec | None = None
    """Set: sandboxes may use this database."""
    max_waiting: int = 2000
    """Most statements that may wait for a connection; above it they are refused as retryable."""
    statement_cache_size: int = 128
    """Prepared statements kept per connection."""
    bulk_rows: float = 20_000.0
    """Planner's row estimate from which a result is streamed as Arrow batches instead of rows."""

    def __repr__(self) -> str:
        return f"PoolSpec(database={self.database!r}, budget={self.budget}, writes={self.writes}, dsn=<secret>)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives every struct one, with all fields.
        return [("database", self.database), ("dsn", "<secret>")]

    @property
    def most_wires(self) -> int:
        """Most connections for sessions of the broker."""
        return min(self.budget, self.wire_budget) or max(1, self.budget - max(1, self.budget // 4))

    @property
    def wire_settings(self) -> dict[str, str]:
        """Startup parameters of the broker's connections: they run statements outside of a transaction of the pool's
        own, so every limit is the session's."""
        return {
            **self.server_settings,
            "default_transaction_read_only": "off" if self.writes else "on",
            "statement_timeout": f"{int(self.session_statement_s * 1000)}ms",
        }

    @property
    def server_settings(self) -> dict[str, str]:
        """Startup parameters of every connection of this pool."""
        return {
            **PINNED_SETTINGS,
            "application_name": f"sandpool:{self.database}",
            "lock_timeout": f"{int(self.lock_timeout_s * 1000)}ms",
            "idle_in_transaction_session_timeout": "60s",
            **self.settings,
        }


def with_doors(spec: PoolSpec, doors: str) -> PoolSpec:
    """The same pool on a node whose host asks for doors in this folder; empty: where there is no host."""
    if spec.session is None:
        return spec
    return msgspec.structs.replace(spec, session=msgspec.structs.replace(spec.session, doors=doors))


def name_job(job_id: str) -> str:
    """A command by which the server's views and logs name the job until its transaction ends. Empty where it has no
    name there."""
    return f"SET LOCAL application_name = '{name}'" if (name := name_at_server(job_id)) else ""


def name_at_server(job_id: str) -> str:
    """`sandpool:JOB`, cut to 63 bytes; empty for an id that could be more than a name."""
    return f"sandpool:{job_id}"[:63] if _JOB_ID.fullmatch(job_id) else ""
