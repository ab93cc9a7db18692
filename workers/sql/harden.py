"""Prints what a database must grant and forbid so that the server itself holds the line. Pure: Hardening -> SQL text.

`sandpool database harden DB` shows it to an administrator, who runs it once per database (it may be run again);
`role.check_role` accepts exactly such a role. Statements that change what PUBLIC may do are marked: other users of the
database lose these rights too, which is the point of a database that agents query.
"""

from __future__ import annotations

import msgspec

from workers.sql.ledger import CREATE_SQL, GRANTS, LEDGER, LEDGER_SCHEMA

# Functions that a read-only transaction does not stop: they sleep, lock, signal, write WAL or run SQL in strings.
# set_config stays: asyncpg needs it to learn types; settings cannot widen what the role may do.
REVOKED_FUNCTIONS = (
    "pg_sleep", "pg_sleep_for", "pg_sleep_until",
    "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "table_to_xml", "table_to_xmlschema",
    "table_to_xml_and_xmlschema", "schema_to_xml", "schema_to_xmlschema", "schema_to_xml_and_xmlschema",
    "database_to_xml", "database_to_xmlschema", "database_to_xml_and_xmlschema", "cursor_to_xml", "cursor_to_xmlschema",
    "ts_stat",
    "lo_create", "lo_creat", "lo_from_bytea", "lo_put", "lo_get", "lo_open", "lo_close", "lo_unlink", "lo_truncate",
    "lo_truncate64", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64", "lo_import", "lo_export", "loread", "lowrite",
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "pg_advisory_unlock", "pg_advisory_unlock_shared",
    "pg_notify", "pg_terminate_backend", "pg_cancel_backend", "pg_logical_emit_message", "pg_export_snapshot",
    "txid_current", "pg_current_xact_id",
    "pg_read_file", "pg_read_binary_file", "pg_stat_file", "pg_ls_dir",
)  # fmt: skip


class Hardening(msgspec.Struct, frozen=True, kw_only=True):
    """What the role of one registered database shall be able to do."""

    role: str
    database: str
    """Name on the server."""
    tables: dict[str, tuple[str, ...]]
    """`schema.table` -> columns the role may read; empty: all of them."""
    writes: dict[str, tuple[str, ...]] = {}
    """`schema.table` -> privileges among INSERT, UPDATE, DELETE."""
    connection_limit: int = 10
    statement_timeout_s: float = 300.0
    lock_timeout_s: float = 5.0
    temp_file_limit_mb: int = 1024
    work_mem_mb: int = 32
    search_path: tuple[str, ...] = ("public",)


def harden(wanted: Hardening) -> str:
    """The SQL to run as a superuser, connected to that database."""
    role = quote(wanted.role)
    parts = [
        f"-- Grants of role {wanted.role} in database {wanted.database}. Run as a superuser, in that database.",
        _create_role(wanted),
        "-- For everybody in this database: nobody creates or keeps temporary things unless granted.",
        f"REVOKE CREATE, TEMPORARY ON DATABASE {quote(wanted.database)} FROM PUBLIC, {role};",
        f"GRANT CONNECT ON DATABASE {quote(wanted.database)} TO {role};",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        "-- For everybody in this database: functions that a read-only transaction does not stop.",
        _revoke_functions(),
        "-- This role: nothing but the tables and columns below.",
        _revoke_everything(wanted),
        *_grants(wanted),
    ]
    if wanted.writes:
        parts += ["-- The ledger of writes: a redelivered write finds its row and does nothing.", CREATE_SQL]
        parts += [f"GRANT USAGE ON SCHEMA {quote(LEDGER_SCHEMA)} TO {role};"]
        parts += [f"GRANT {grant} ON {LEDGER} TO {role};" for grant in GRANTS]
    parts += ["-- Limits that hold without the pool.", *_settings(wanted)]
    return "\n".join(["BEGIN;", *parts, "COMMIT;"]) + "\n"


def quote(name: str) -> str:
    """An identifier, quoted."""
    if not name or "\x00" in name or "$" in name:
        raise ValueError("an identifier is not empty and holds neither U+0000 nor $")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant (standard_conforming_strings = on)."""
    return "'" + text.replace("'", "''") + "'"


def qualified(table: str) -> str:
    """`schema.table`, both parts quoted."""
    schema, dot, name = table.partition(".")
    if not dot:
        raise ValueError(f"table {table!r}: name it as schema.table")
    return f"{quote(schema)}.{quote(name)}"


def _create_role(wanted: Hardening) -> str:
    role = quote(wanted.role)
    options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT"
    return f"""\
DO $sandpool$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal(wanted.role)}) THEN
        CREATE ROLE {role} {options};  -- then: \\password {wanted.role}
    END IF;
END $sandpool$;
ALTER ROLE {role} {options} CONNECTION LIMIT {wanted.connection_limit};"""


def _revoke_functions() -> str:
    names = ", ".join(literal(name) for name in REVOKED_FUNCTIONS)
    return f"""\
DO $sandpool$ DECLARE f regprocedure; BEGIN
    FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (
        p.proname IN ({names})
        OR p.proname = 'ts_rewrite' AND pg_catalog.pg_get_function_identity_arguments(p.oid) = 'tsquery, text')
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $sandpool$;"""  # noqa: S608 - names are quoted


def _revoke_everything(wanted: Hardening) -> str:
    role = literal(wanted.role)
    return f"""\
DO $sandpool$ DECLARE s name; BEGIN
    FOR s IN SELECT nspname FROM pg_catalog.pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %I', s, {role});
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', s, {role});
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', s, {role});
        EXECUTE pg_catalog.format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA %I FROM PUBLIC', s);
    END LOOP;
END $sandpool$;"""  # noqa: S608 - names are quoted


def _grants(wanted: Hardening) -> list[str]:
    role = quote(wanted.role)
    schemas = sorted({table.partition(".")[0] for table in (*wanted.tables, *wanted.writes)})
    lines = [f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role};" for schema in schemas]
    for table, columns in sorted(wanted.tables.items()):
        listed = f" ({', '.join(map(quote, columns))})" if columns else ""
        lines.append(f"GRANT SELECT{listed} ON {qualified(table)} TO {role};")
    for table, privileges in sorted(wanted.writes.items()):
        unknown = set(privileges) - {"INSERT", "UPDATE", "DELETE"}
        if unknown or not privileges:
            raise ValueError(f"table {table}: writes are some of INSERT, UPDATE, DELETE")
        lines.append(f"GRANT {', '.join(privileges)} ON {qualified(table)} TO {role};")
    return lines


def _settings(wanted: Hardening) -> list[str]:
    settings = {
        "default_transaction_read_only": "off" if wanted.writes else "on",
        "statement_timeout": f"{int(wanted.statement_timeout_s * 1000)}ms",
        "lock_timeout": f"{int(wanted.lock_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": "60s",
        "temp_file_limit": f"{wanted.temp_file_limit_mb}MB",
        "work_mem": f"{wanted.work_mem_mb}MB",
    }
    lines = [f"ALTER ROLE {quote(wanted.role)} SET {name} = {literal(value)};" for name, value in settings.items()]
    path = ", ".join(map(quote, wanted.search_path))
    return [*lines, f"ALTER ROLE {quote(wanted.role)} SET search_path = {path};"]
