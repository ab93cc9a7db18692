"""Which system catalogs a session may read, which of their rows, and what stands in the place of telling columns.

Data for visible.py, reviewed relation by relation: a row may be seen when it describes something that the policy shows,
or something that every PostgreSQL has. A relation that is not here is refused: pg_statistic and pg_stats hold values of
columns, pg_stat_* and pg_locks tell of other sessions, pg_authid and pg_shadow hold passwords.

Each filter is SQL over `r`, a row of the relation, and may use the helpers of visible.py (`_sandpool_...`).
"""
# ruff: noqa: S608 - constants of this package and quoted arrays only

from __future__ import annotations

from dataclasses import dataclass, field

from workers.sql.policy.session.settings import READABLE

OWN_ROLE = "pg_catalog.quote_ident(current_user)::pg_catalog.regrole::pg_catalog.oid"
OWN_FROM = 16384
"""Everything that came with the server has an OID below this one, everything made later has one above it."""
BUILT_IN_SPACES = "('pg_catalog'::pg_catalog.regnamespace, 'information_schema'::pg_catalog.regnamespace)"
_NO_ACL = "NULL::pg_catalog.text[]"
_NO_TEXT = "NULL::pg_catalog.text"


@dataclass(frozen=True, slots=True)
class Relation:
    """One system relation as sessions see it."""

    filter: str
    masks: dict[str, str] = field(default_factory=dict)
    """Column -> what is shown instead; columns that a version of the server lacks are passed over."""


def _member(column: str, helper: str) -> str:
    return f"r.{column} IN (SELECT _sandpool_oid FROM _sandpool_{helper})"


def _space(column: str) -> str:
    return _member(column, "spaces")


def _type(column: str) -> str:
    """Of a column that refers to a type: the server's own, or one that the policy shows."""
    return f"(r.{column} < {OWN_FROM} OR {_member(column, 'own_types')})"


def _built_in_or(space: str, helper: str) -> str:
    """Of a relation whose rows are what may be seen, by the schema that they are in."""
    return f"(r.oid < {OWN_FROM} AND r.{space} IN {BUILT_IN_SPACES} OR {_member('oid', helper)})"


def _named(schema: str, name: str) -> str:
    return f"(r.{schema}, r.{name}) IN (SELECT _sandpool_schema, _sandpool_name FROM _sandpool_listed)"


_COLUMN = (
    "(r.{}, r.{}, r.{}) IN (SELECT _sandpool_schema, _sandpool_name, _sandpool_column FROM _sandpool_columns)"
).format
_CONSTRAINT = (
    "(r.constraint_schema, r.constraint_name) IN "
    "(SELECT _sandpool_schema, _sandpool_name FROM _sandpool_constraint_names)"
)
_ATTRIBUTE = (
    "(r.{0} IN (SELECT _sandpool_oid FROM _sandpool_open) AND r.{1} > 0"
    " OR (r.{0}, r.{1}) IN (SELECT _sandpool_oid, _sandpool_number FROM _sandpool_partly)"
    " OR r.{0} IN (SELECT _sandpool_oid FROM _sandpool_relations)"
    " AND r.{0} NOT IN (SELECT _sandpool_oid FROM _sandpool_listed))"
).format
"""Visible columns of tables, and all of those of indexes, composite types and catalogs."""
_ANY = "true"
NO_ROW = "false"
"""Filter of the relations of which the policy shows nothing."""

PG_CATALOG: dict[str, Relation] = {
    # tables, columns and what hangs on them
    "pg_class": Relation(
        _built_in_or("relnamespace", "own_relations"),
        {
            "relowner": OWN_ROLE,
            "relacl": _NO_ACL,
            "relpages": "CASE WHEN " + _member("oid", "counted") + " THEN r.relpages ELSE 0 END",
            "reltuples": "CASE WHEN " + _member("oid", "counted") + " THEN r.reltuples ELSE -1 END",
            "relallvisible": "CASE WHEN " + _member("oid", "counted") + " THEN r.relallvisible ELSE 0 END",
            "relpartbound": "CASE WHEN " + _member("oid", "open") + " THEN r.relpartbound END",
        },
    ),
    "pg_attribute": Relation(
        _ATTRIBUTE("attrelid", "attnum") + " AND (NOT r.attisdropped OR NOT " + _member("attrelid", "listed") + ")",
        {"attacl": _NO_ACL, "attmissingval": "NULL::pg_catalog.text[]", "attstattarget": "-1"},
    ),
    "pg_attrdef": Relation("(r.adrelid, r.adnum) IN (SELECT _sandpool_oid, _sandpool_number FROM _sandpool_defaults)"),
    "pg_index": Relation(_member("indexrelid", "relations")),
    "pg_constraint": Relation(_member("oid", "constraints")),
    "pg_inherits": Relation(_member("inhrelid", "relations") + " AND " + _member("inhparent", "relations")),
    "pg_partitioned_table": Relation(_member("partrelid", "open")),
    "pg_sequence": Relation(_member("seqrelid", "relations")),
    "pg_depend": Relation(
        "r.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND "
        + _member("refobjid", "relations")
        + " AND (r.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND "
        + _member("objid", "relations")
        + " OR r.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND "
        + _member("objid", "constraints")
        + ")"
    ),
    "pg_description": Relation(
        "r.objoid < 16384 OR "  # came with the server
        "r.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND "
        "(r.objsubid = 0 AND "
        + _member("objoid", "own_relations")
        + " OR r.objsubid <> 0 AND "
        + _ATTRIBUTE("objoid", "objsubid")
        + ")"
        " OR r.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND "
        + _member("objoid", "spaces")
        + " OR r.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass AND "
        + _member("objoid", "own_types")
        + " OR r.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND "
        + _member("objoid", "own_functions")
        + " OR r.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND "
        + _member("objoid", "constraints")
    ),
    # schemas, types, functions, operators
    "pg_namespace": Relation(_member("oid", "spaces"), {"nspowner": OWN_ROLE, "nspacl": _NO_ACL}),
    "pg_type": Relation(
        _built_in_or("typnamespace", "own_types"),
        {
            "typowner": OWN_ROLE,
            "typacl": _NO_ACL,
            "typrelid": "CASE WHEN " + _member("typrelid", "relations") + " THEN r.typrelid ELSE 0 END",
        },
    ),
    "pg_enum": Relation(_type("enumtypid")),
    "pg_range": Relation(_type("rngtypid")),
    "pg_proc": Relation(
        _built_in_or("pronamespace", "own_functions"),
        {
            "proowner": OWN_ROLE,
            "proacl": _NO_ACL,
            "prosrc": "CASE WHEN r.pronamespace = 'pg_catalog'::pg_catalog.regnamespace THEN r.prosrc END",
            "probin": _NO_TEXT,
            "proconfig": "NULL::pg_catalog.text[]",
            "prosqlbody": "NULL::pg_catalog.pg_node_tree",
            "proargdefaults": "CASE WHEN r.pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
            " THEN r.proargdefaults END",
        },
    ),
    "pg_aggregate": Relation(
        f"(r.aggfnoid::pg_catalog.oid < {OWN_FROM} OR " + _member("aggfnoid", "own_functions") + ")"
    ),
    "pg_cast": Relation(_type("castsource") + " AND " + _type("casttarget")),
    "pg_operator": Relation(_space("oprnamespace"), {"oprowner": OWN_ROLE}),
    "pg_opclass": Relation(_space("opcnamespace"), {"opcowner": OWN_ROLE}),
    "pg_opfamily": Relation(_space("opfnamespace"), {"opfowner": OWN_ROLE}),
    "pg_amop": Relation(_type("amoplefttype") + " AND " + _type("amoprighttype")),
    "pg_amproc": Relation(_type("amproclefttype") + " AND " + _type("amprocrighttype")),
    "pg_collation": Relation(_space("collnamespace"), {"collowner": OWN_ROLE}),
    "pg_conversion": Relation(_space("connamespace"), {"conowner": OWN_ROLE}),
    "pg_ts_config": Relation(_space("cfgnamespace"), {"cfgowner": OWN_ROLE}),
    "pg_ts_dict": Relation(_space("dictnamespace"), {"dictowner": OWN_ROLE, "dictinitoption": _NO_TEXT}),
    "pg_ts_parser": Relation(_space("prsnamespace")),
    "pg_ts_template": Relation(_space("tmplnamespace")),
    "pg_am": Relation(_ANY),
    "pg_language": Relation(_ANY, {"lanowner": OWN_ROLE, "lanacl": _NO_ACL}),
    "pg_extension": Relation(
        _ANY, {"extowner": OWN_ROLE, "extconfig": "NULL::pg_catalog.oid[]", "extcondition": "NULL::pg_catalog.text[]"}
    ),
    # the server, as far as a session's own
    "pg_database": Relation("r.datname = current_catalog", {"datdba": OWN_ROLE, "datacl": _NO_ACL}),
    "pg_tablespace": Relation(
        "r.spcname IN ('pg_default', 'pg_global')",
        {"spcowner": OWN_ROLE, "spcacl": _NO_ACL, "spcoptions": "NULL::pg_catalog.text[]"},
    ),
    "pg_roles": Relation("r.rolname = current_user", {"rolconfig": "NULL::pg_catalog.text[]"}),
    "pg_user": Relation("r.usename = current_user", {"useconfig": "NULL::pg_catalog.text[]"}),
    "pg_settings": Relation(
        "pg_catalog.lower(r.name) IN ({})".format(", ".join(f"'{name}'" for name in sorted(READABLE))),
        {"sourcefile": _NO_TEXT, "sourceline": "NULL::pg_catalog.int4"},
    ),
    "pg_cursors": Relation(_ANY, {"statement": "''::pg_catalog.text"}),
    "pg_timezone_names": Relation(_ANY),
    "pg_timezone_abbrevs": Relation(_ANY),
    # views over them
    "pg_tables": Relation(_named("schemaname", "tablename"), {"tableowner": "current_user::pg_catalog.name"}),
    "pg_views": Relation(
        _named("schemaname", "viewname"), {"viewowner": "current_user::pg_catalog.name", "definition": _NO_TEXT}
    ),
    "pg_matviews": Relation(
        _named("schemaname", "matviewname"), {"matviewowner": "current_user::pg_catalog.name", "definition": _NO_TEXT}
    ),
    "pg_indexes": Relation(
        "(r.schemaname, r.indexname) IN (SELECT _sandpool_schema, _sandpool_name FROM _sandpool_index_names)"
    ),
    # there is nothing of these that the policy shows
    **{
        name: Relation(NO_ROW)
        for name in (
            "pg_auth_members", "pg_default_acl", "pg_event_trigger", "pg_foreign_data_wrapper", "pg_foreign_server",
            "pg_foreign_table", "pg_group", "pg_largeobject_metadata", "pg_policies", "pg_policy",
            "pg_prepared_statements", "pg_publication", "pg_publication_namespace", "pg_publication_rel",
            "pg_publication_tables", "pg_rewrite", "pg_rules", "pg_seclabel", "pg_seclabels", "pg_sequences",
            "pg_shdepend", "pg_shdescription", "pg_shseclabel", "pg_statistic_ext", "pg_transform", "pg_trigger",
            "pg_user_mappings", "pg_db_role_setting",
        )
    },
}  # fmt: skip

_GRANTOR = {"grantor": "current_user::information_schema.sql_identifier"}
INFORMATION_SCHEMA: dict[str, Relation] = {
    "tables": Relation(_named("table_schema", "table_name")),
    "columns": Relation(
        _COLUMN("table_schema", "table_name", "column_name"),
        {
            "generation_expression": "CASE WHEN (r.table_schema, r.table_name) IN (SELECT _sandpool_schema,"
            " _sandpool_name FROM _sandpool_open) THEN r.generation_expression END"
        },
    ),
    "views": Relation(
        _named("table_schema", "table_name"), {"view_definition": "NULL::information_schema.character_data"}
    ),
    "schemata": Relation(
        "r.schema_name IN (SELECT _sandpool_name FROM _sandpool_spaces)",
        {"schema_owner": "current_user::information_schema.sql_identifier"},
    ),
    "table_constraints": Relation(_named("table_schema", "table_name") + " AND " + _CONSTRAINT),
    "key_column_usage": Relation(_COLUMN("table_schema", "table_name", "column_name") + " AND " + _CONSTRAINT),
    "constraint_column_usage": Relation(_COLUMN("table_schema", "table_name", "column_name") + " AND " + _CONSTRAINT),
    "constraint_table_usage": Relation(_named("table_schema", "table_name") + " AND " + _CONSTRAINT),
    "referential_constraints": Relation(_CONSTRAINT),
    "check_constraints": Relation(_CONSTRAINT),
    "table_privileges": Relation(_named("table_schema", "table_name") + " AND r.grantee = current_user", _GRANTOR),
    "role_table_grants": Relation(_named("table_schema", "table_name") + " AND r.grantee = current_user", _GRANTOR),
    "column_privileges": Relation(
        _COLUMN("table_schema", "table_name", "column_name") + " AND r.grantee = current_user", _GRANTOR
    ),
    "role_column_grants": Relation(
        _COLUMN("table_schema", "table_name", "column_name") + " AND r.grantee = current_user", _GRANTOR
    ),
    "enabled_roles": Relation("r.role_name = current_user"),
    "information_schema_catalog_name": Relation(_ANY),
    "character_sets": Relation(_ANY),
    "collations": Relation("r.collation_schema = 'pg_catalog'"),
    "sql_features": Relation(_ANY),
    "sql_implementation_info": Relation(_ANY),
    "sql_sizing": Relation(_ANY),
    **{
        name: Relation(NO_ROW)
        for name in (
            "applicable_roles", "administrable_role_authorizations", "domains", "domain_constraints",
            "element_types", "foreign_tables", "foreign_servers", "parameters", "routines", "sequences", "triggers",
            "triggered_update_columns", "usage_privileges", "udt_privileges", "routine_privileges",
            "user_defined_types", "view_column_usage", "view_table_usage", "view_routine_usage", "attributes",
            "column_column_usage", "column_domain_usage", "column_udt_usage", "data_type_privileges",
        )
    },
}  # fmt: skip

RELATIONS: dict[tuple[str, str], Relation] = {
    **{("pg_catalog", name): relation for name, relation in PG_CATALOG.items()},
    **{("information_schema", name): relation for name, relation in INFORMATION_SCHEMA.items()},
}
