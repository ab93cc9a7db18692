"""Checks at start that the pool's role can do no more than the database's registration says. The server's own grants
are the first line of defence: they hold even where every later check is wrong.

Called by `pool.start`. Raises DatabaseRefusesRole naming each grant or attribute and the statement that removes it.
"""

from __future__ import annotations

from workers.errors import DatabaseRefusesRole
from workers.sql.ledger import LEDGER, PRIVILEGES
from workers.sql.session import Session
from workers.sql.spec import PoolSpec

MAX_SHOWN = 10

_ATTRIBUTES_SQL = """
    SELECT a.attribute
    FROM pg_catalog.pg_roles r, LATERAL (VALUES
        ('SUPERUSER', r.rolsuper), ('CREATEDB', r.rolcreatedb), ('CREATEROLE', r.rolcreaterole),
        ('REPLICATION', r.rolreplication), ('BYPASSRLS', r.rolbypassrls)) AS a(attribute, held)
    WHERE r.rolname = current_user AND a.held
"""
_MEMBERSHIPS_SQL = """
    SELECT r.rolname FROM pg_catalog.pg_roles r
    WHERE r.rolname <> current_user AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') ORDER BY 1
"""
_DATABASE_SQL = """
    SELECT p.privilege, pg_catalog.current_database() AS database
    FROM (VALUES ('CREATE'), ('TEMPORARY')) AS p(privilege)
    WHERE pg_catalog.has_database_privilege(pg_catalog.current_database(), p.privilege)
"""
_SCHEMAS_SQL = """
    SELECT nspname FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_(toast_)?temp_' AND pg_catalog.has_schema_privilege(oid, 'CREATE') ORDER BY 1
"""
_OWNED_SQL = """
    SELECT 'schema ' || quote_ident(nspname) FROM pg_catalog.pg_namespace
    WHERE nspowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
    UNION ALL
    SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
    WHERE relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) AND relkind NOT IN ('i', 't')
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure::text FROM pg_catalog.pg_proc p
    WHERE proowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
# pg_settings takes UPDATE from everybody: it is SET in disguise, which READ ONLY does not forbid either.
_WRITES_SQL = """
    SELECT n.nspname || '.' || c.relname AS name, p.privilege
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
    (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS p(privilege)
    WHERE c.relkind IN ('r', 'p', 'v', 'f') AND NOT (n.nspname = 'pg_catalog' AND c.relname = 'pg_settings')
      AND n.nspname !~ '^pg_(toast_)?temp_'
      AND (pg_catalog.has_table_privilege(c.oid, p.privilege)
           OR p.privilege IN ('INSERT', 'UPDATE') AND pg_catalog.has_any_column_privilege(c.oid, p.privilege))
    ORDER BY 1, 2
"""
_SEQUENCES_SQL = """
    SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
    WHERE CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'USAGE, UPDATE') END ORDER BY 1
"""
_FUNCTIONS_SQL = """
    SELECT p.oid::regprocedure::text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
      AND (n.nspname = 'pg_catalog' AND p.proname IN (
               'pg_read_file', 'pg_read_binary_file', 'pg_stat_file', 'pg_ls_dir', 'pg_ls_logdir', 'pg_ls_waldir',
               'pg_ls_tmpdir', 'pg_ls_archive_statusdir', 'lo_import', 'lo_export', 'pg_reload_conf', 'pg_promote')
           OR p.proname IN ('pg_file_write', 'pg_file_read', 'pg_file_unlink', 'pg_file_rename', 'dblink',
                            'dblink_exec', 'dblink_connect', 'dblink_connect_u', 'dblink_send_query'))
    ORDER BY 1
"""


async def check_role(session: Session, spec: PoolSpec) -> None:
    """Raise DatabaseRefusesRole when the session's role may do more than `spec` allows."""
    role = str((await session.query("SELECT quote_ident(current_user)"))[0][0])
    problems = await find_problems(session, role, spec)
    if not problems:
        return
    shown = [f"{what} (fix: {fix})" for what, fix in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        shown.append(f"and {len(problems) - MAX_SHOWN} more")
    kind = "write to the listed tables" if spec.writes else "be read-only"
    raise DatabaseRefusesRole(
        f"role {role} of database {spec.database} must {kind}, but it {'; it '.join(shown)}",
        hint=f"`sandpool database harden {spec.database}` prints a role with exactly the grants it needs",
    )


async def find_problems(session: Session, role: str, spec: PoolSpec) -> list[tuple[str, str]]:
    """What the role may do beyond its registration: (what, the SQL that ends it)."""
    attributes = [str(row[0]) for row in await session.query(_ATTRIBUTES_SQL)]
    if "SUPERUSER" in attributes:
        # A superuser passes every other check below as "may"; one reason says it all.
        return [("is a superuser", f"ALTER ROLE {role} NOSUPERUSER, or use another role")]
    problems = [(f"has {each}", f"ALTER ROLE {role} NO{each}") for each in attributes]
    for row in await session.query(_MEMBERSHIPS_SQL):
        problems.append((f"is a member of {row[0]} and can become it", f'REVOKE "{row[0]}" FROM {role}'))
    for row in await session.query(_DATABASE_SQL):
        fix = f'REVOKE {row[0]} ON DATABASE "{row[1]}" FROM PUBLIC, {role}'
        problems.append((f"has {row[0]} on the database", fix))
    for row in await session.query(_SCHEMAS_SQL):
        problems.append((f"can create in schema {row[0]}", f'REVOKE CREATE ON SCHEMA "{row[0]}" FROM PUBLIC, {role}'))
    for row in await session.query(_OWNED_SQL):
        problems.append((f"owns {row[0]}", "ALTER ... OWNER TO another role"))
    for row in await session.query(_WRITES_SQL):
        if not may_write(spec, str(row[0]), str(row[1])):
            problems.append((f"may {row[1]} on {row[0]}", f"REVOKE {row[1]} ON {row[0]} FROM PUBLIC, {role}"))
    if not spec.writes:
        for row in await session.query(_SEQUENCES_SQL):
            problems.append((f"may advance sequence {row[0]}", f"REVOKE ALL ON SEQUENCE {row[0]} FROM PUBLIC, {role}"))
    for row in await session.query(_FUNCTIONS_SQL):
        problems.append((f"may execute {row[0]}", f"REVOKE EXECUTE ON FUNCTION {row[0]} FROM PUBLIC, {role}"))
    return problems


def may_write(spec: PoolSpec, table: str, privilege: str) -> bool:
    """Whether the registration lists this privilege on this table (`schema.table`)."""
    if not spec.writes:
        return False
    if table == LEDGER:
        return privilege in PRIVILEGES
    return privilege in spec.write_tables.get(table, ())
