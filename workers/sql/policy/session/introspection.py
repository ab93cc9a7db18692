"""Functions and casts that introspection needs and that could name hidden objects: which may be called as they are, and
what stands in the place of the others.

Data for guards.py, reviewed one by one. A template is a query over the helpers of visible.py in which $1, $2, ... are
the arguments as written: the function itself only ever gets the OID of something visible, `_sandpool_v._sandpool_oid`,
never the caller's value, which might be another one each time it is computed.
"""
# ruff: noqa: S608 - constants of this package only

from __future__ import annotations

from dataclasses import dataclass

PLAIN: dict[str, tuple[str, ...]] = {
    # About the session's own or the server's kind.
    **dict.fromkeys(
        (
            "version", "current_database", "current_schema", "current_schemas", "current_catalog",
            "getdatabaseencoding", "pg_client_encoding", "pg_encoding_to_char", "pg_char_to_encoding",
            "pg_is_in_recovery",
            "pg_encoding_max_length", "pg_my_temp_schema", "pg_is_other_temp_schema",
        ),
        (),
    ),
    # True, false or NULL for an OID: no name.
    **dict.fromkeys(
        (
            "pg_table_is_visible", "pg_type_is_visible", "pg_function_is_visible", "pg_operator_is_visible",
            "pg_opclass_is_visible", "pg_opfamily_is_visible", "pg_collation_is_visible", "pg_conversion_is_visible",
            "pg_ts_config_is_visible", "pg_ts_dict_is_visible", "pg_ts_parser_is_visible", "pg_ts_template_is_visible",
            "pg_statistics_obj_is_visible", "pg_index_column_has_property", "pg_indexam_has_property",
            "pg_column_is_updatable", "pg_relation_is_updatable",
        ),
        (),
    ),
    "pg_get_keywords": ("word", "catcode", "barelabel", "catdesc", "baredesc"),
    "pg_timezone_names": ("name", "abbrev", "utc_offset", "is_dst"),
    "pg_timezone_abbrevs": ("abbrev", "utc_offset", "is_dst"),
    "pg_options_to_table": ("option_name", "option_value"),
    "pg_partition_ancestors": ("relid",),
    "information_schema._pg_expandarray": ("x", "n"),
    **dict.fromkeys(
        (
            "information_schema._pg_truetypid", "information_schema._pg_truetypmod",
            "information_schema._pg_char_max_length", "information_schema._pg_char_octet_length",
            "information_schema._pg_numeric_precision", "information_schema._pg_numeric_precision_radix",
            "information_schema._pg_numeric_scale", "information_schema._pg_datetime_precision",
            "information_schema._pg_interval_type", "information_schema._pg_index_position",
        ),
        (),
    ),
}  # fmt: skip
"""Name -> columns in FROM. A function that is in GUARDED as well has its columns here and its guard there."""

FIELDS = frozenset({"x", "n"})
"""Fields of composite values that introspection reads; no built-in function is called like one of them."""

NULLS = {
    **dict.fromkeys(
        (
            "pg_get_triggerdef", "pg_get_ruledef", "pg_get_statisticsobjdef",
            "pg_get_statisticsobjdef_columns", "pg_get_statisticsobjdef_expressions", "pg_get_function_sqlbody",
            "shobj_description",
        ),
        "NULL::pg_catalog.text",
    ),
    "pg_get_viewdef": "''::pg_catalog.text",  # SQLAlchemy takes NULL for: no such view
    "pg_relation_is_publishable": "false",
    "pg_tablespace_location": "''::pg_catalog.text",
}  # fmt: skip
"""Never called: definitions may name anything. What stands for them."""

EXPRESSIONS = frozenset({
    ("pg_attrdef", "adbin", "adrelid"), ("pg_index", "indexprs", "indrelid"), ("pg_index", "indpred", "indrelid"),
    ("pg_constraint", "conbin", "conrelid"), ("pg_class", "relpartbound", "oid"),
    ("pg_partitioned_table", "partexprs", "partrelid"), ("pg_policy", "polqual", "polrelid"),
    ("pg_policy", "polwithcheck", "polrelid"), ("pg_trigger", "tgqual", "tgrelid"),
})  # fmt: skip
"""Relation, expression, its table: what pg_get_expr may print. With another table it would show that one's columns."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands for a call with so many arguments, and the columns of catalogs for which the call may stay."""

    template: str
    safe: frozenset[tuple[str, str]] = frozenset()
    is_call: bool = False
    """Whether the template's only value stands for the call, not the template as a subquery: it yields several rows."""


_OID = "_sandpool_v._sandpool_oid"
_RELATIONS = frozenset({
    ("pg_class", "oid"), ("pg_attribute", "attrelid"), ("pg_attrdef", "adrelid"), ("pg_index", "indexrelid"),
    ("pg_index", "indrelid"), ("pg_constraint", "conrelid"), ("pg_constraint", "confrelid"),
    ("pg_constraint", "conindid"), ("pg_inherits", "inhrelid"), ("pg_inherits", "inhparent"),
    ("pg_sequence", "seqrelid"), ("pg_partitioned_table", "partrelid"), ("pg_depend", "refobjid"),
    ("pg_type", "typrelid"), ("pg_trigger", "tgrelid"), ("pg_statistic_ext", "stxrelid"), ("pg_rewrite", "ev_class"),
    ("pg_policy", "polrelid"), ("pg_foreign_table", "ftrelid"), ("pg_trigger", "tgconstrrelid"),
    ("pg_publication_rel", "prrelid"),
})  # fmt: skip
_TYPES = frozenset(
    {("pg_type", "oid"), ("pg_attribute", "atttypid"), ("pg_enum", "enumtypid"), ("pg_range", "rngtypid")}
)
_FUNCTIONS = frozenset({("pg_proc", "oid"), ("pg_aggregate", "aggfnoid"), ("pg_trigger", "tgfoid")})
_CONSTRAINTS = frozenset({("pg_constraint", "oid")})
_SPACES = frozenset({
    ("pg_namespace", "oid"), ("pg_class", "relnamespace"), ("pg_statistic_ext", "stxnamespace"),
    ("pg_constraint", "connamespace"),
})  # fmt: skip


def _by_oid(call: str, helper: str) -> str:
    return f"SELECT {call} FROM _sandpool_{helper} _sandpool_v WHERE {_OID} = ($1)"


def _number_or(lookup: str) -> str:
    """Whether the visible thing is what $1 means, be it an OID, a number as text or a name."""
    return (
        f"{_OID} = CASE WHEN ($1)::pg_catalog.text ~ '^[0-9]+$' THEN ($1)::pg_catalog.text::pg_catalog.oid "
        f"ELSE {lookup} END"
    )


def _named(call: str, helper: str, lookup: str) -> str:
    return f"SELECT {call} FROM _sandpool_{helper} _sandpool_v WHERE " + _number_or(lookup)


def _to(kind: str) -> str:
    return f"pg_catalog.to_{kind}(($1)::pg_catalog.text)::pg_catalog.oid"


_NAME = "pg_catalog.btrim(($1)::pg_catalog.text, '\"')"
_SPACE = (
    f"(SELECT {_OID} FROM _sandpool_spaces _sandpool_v WHERE _sandpool_v._sandpool_name::pg_catalog.text = {_NAME})"
)
_ROLE = f"(SELECT {_OID} FROM _sandpool_roles _sandpool_v WHERE current_user::pg_catalog.text = {_NAME})"
_DATABASE = f"(SELECT {_OID} FROM _sandpool_databases _sandpool_v WHERE current_catalog::pg_catalog.text = {_NAME})"
_COMMENT = "SELECT _sandpool_v._sandpool_text FROM _sandpool_comments _sandpool_v WHERE "
_CATALOG = "pg_catalog.to_regclass('pg_catalog.' || pg_catalog.quote_ident(($2)::pg_catalog.text))"

GUARDED: dict[tuple[str, int], Guard] = {
    ("format_type", 2): Guard(_by_oid(f"pg_catalog.format_type({_OID}, $2)", "types"), _TYPES),
    ("pg_get_indexdef", 1): Guard(_by_oid(f"pg_catalog.pg_get_indexdef({_OID})", "relations"), _RELATIONS),
    ("pg_get_indexdef", 3): Guard(_by_oid(f"pg_catalog.pg_get_indexdef({_OID}, $2, $3)", "relations"), _RELATIONS),
    ("pg_get_constraintdef", 1): Guard(
        _by_oid(f"pg_catalog.pg_get_constraintdef({_OID})", "constraints"), _CONSTRAINTS
    ),
    ("pg_get_constraintdef", 2): Guard(
        _by_oid(f"pg_catalog.pg_get_constraintdef({_OID}, $2)", "constraints"), _CONSTRAINTS
    ),
    ("pg_get_partkeydef", 1): Guard(_by_oid(f"pg_catalog.pg_get_partkeydef({_OID})", "open")),
    ("pg_get_partition_constraintdef", 1): Guard(_by_oid(f"pg_catalog.pg_get_partition_constraintdef({_OID})", "open")),
    **{
        (name, 1): Guard(_by_oid(f"pg_catalog.{name}({_OID})", "functions"), _FUNCTIONS)
        for name in ("pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result")
    },
    ("pg_get_userbyid", 1): Guard(
        "SELECT CASE WHEN ($1) = _sandpool_v._sandpool_oid THEN current_user::pg_catalog.name "
        "ELSE ('unknown (OID=' || ($1)::pg_catalog.text || ')')::pg_catalog.name END FROM _sandpool_roles _sandpool_v"
    ),
    ("obj_description", 1): Guard(_COMMENT + f"{_OID} = ($1) AND _sandpool_v._sandpool_number = 0 LIMIT 1"),
    ("obj_description", 2): Guard(
        _COMMENT + f"{_OID} = ($1) AND _sandpool_v._sandpool_class = {_CATALOG} AND _sandpool_v._sandpool_number = 0"
    ),
    ("col_description", 2): Guard(
        _COMMENT + f"{_OID} = ($1) AND _sandpool_v._sandpool_class = 'pg_catalog.pg_class'::pg_catalog.regclass"
        " AND _sandpool_v._sandpool_number = ($2)"
    ),
    **{
        (name, 2): Guard(_named(f"pg_catalog.{name}({_OID}, $2)", "relations", _to("regclass")), _RELATIONS)
        for name in ("has_table_privilege", "has_any_column_privilege", "has_sequence_privilege")
    },
    ("has_column_privilege", 3): Guard(
        f"SELECT pg_catalog.has_column_privilege({_OID}, _sandpool_v._sandpool_number, $3) "
        "FROM _sandpool_columns _sandpool_v WHERE " + _number_or(_to("regclass")) + " AND "
        "($2)::pg_catalog.text IN (_sandpool_v._sandpool_column::pg_catalog.text, "
        "_sandpool_v._sandpool_number::pg_catalog.text)"
    ),
    ("has_schema_privilege", 2): Guard(
        _named(f"pg_catalog.has_schema_privilege({_OID}, $2)", "spaces", _SPACE), _SPACES
    ),
    ("has_database_privilege", 2): Guard(
        _named(f"pg_catalog.has_database_privilege({_OID}, $2)", "databases", _DATABASE)
    ),
    ("has_function_privilege", 2): Guard(
        _named(f"pg_catalog.has_function_privilege({_OID}, $2)", "functions", _to("regprocedure")), _FUNCTIONS
    ),
    ("has_type_privilege", 2): Guard(
        _named(f"pg_catalog.has_type_privilege({_OID}, $2)", "types", _to("regtype")), _TYPES
    ),
    ("pg_has_role", 2): Guard(_named(f"pg_catalog.pg_has_role({_OID}, $2)", "roles", _ROLE)),
    ("pg_get_serial_sequence", 2): Guard(
        "SELECT pg_catalog.pg_get_serial_sequence("
        f"{_OID}::pg_catalog.regclass::pg_catalog.text, _sandpool_v._sandpool_column::pg_catalog.text) "
        "FROM _sandpool_columns _sandpool_v WHERE "
        + _number_or(_to("regclass"))
        + " AND ($2)::pg_catalog.text = _sandpool_v._sandpool_column::pg_catalog.text"
    ),
    **{
        ("current_setting", count): Guard(
            "SELECT pg_catalog.current_setting(_sandpool_v._sandpool_name) FROM _sandpool_settings _sandpool_v "
            "WHERE _sandpool_v._sandpool_name = pg_catalog.lower(($1)::pg_catalog.text)"
        )
        for count in (1, 2)
    },
    ("pg_partition_ancestors", 1): Guard(
        "SELECT pg_catalog.unnest((SELECT "
        "pg_catalog.array_agg(_sandpool_v.relid::pg_catalog.oid ORDER BY _sandpool_v.depth) "
        "FROM pg_catalog.pg_partition_ancestors($1) WITH ORDINALITY _sandpool_v(relid, depth) "
        "WHERE _sandpool_v.relid IN (SELECT _sandpool_oid FROM _sandpool_relations)))",
        is_call=True,
    ),
    ("to_regclass", 1): Guard(_named(f"{_OID}::pg_catalog.regclass", "relations", _to("regclass"))),
    ("to_regtype", 1): Guard(_named(f"{_OID}::pg_catalog.regtype", "types", _to("regtype"))),
    ("to_regproc", 1): Guard(_named(f"{_OID}::pg_catalog.regproc", "functions", _to("regproc"))),
    ("to_regprocedure", 1): Guard(_named(f"{_OID}::pg_catalog.regprocedure", "functions", _to("regprocedure"))),
    ("to_regnamespace", 1): Guard(_named(f"{_OID}::pg_catalog.regnamespace", "spaces", _SPACE)),
    ("to_regrole", 1): Guard(_named(f"{_OID}::pg_catalog.regrole", "roles", _ROLE)),
}
SIZES: dict[str, Guard] = {
    **{
        name: Guard(_by_oid(f"pg_catalog.{name}({_OID})", "counted"))
        for name in ("pg_table_size", "pg_total_relation_size", "pg_relation_size", "pg_indexes_size")
    },
    **dict.fromkeys(("pg_database_size", "pg_tablespace_size"), Guard("SELECT NULL::pg_catalog.int8")),
}
"""For columns of catalogs only: psql's \\dt+ asks so. NULL where a size would tell of hidden rows."""

CASTS: dict[str, Guard] = {
    "regclass": Guard(GUARDED["to_regclass", 1].template, _RELATIONS),
    "regtype": Guard(GUARDED["to_regtype", 1].template, _TYPES),
    "regproc": Guard(GUARDED["to_regproc", 1].template, _FUNCTIONS),
    "regprocedure": Guard(GUARDED["to_regprocedure", 1].template, _FUNCTIONS),
    "regnamespace": Guard(GUARDED["to_regnamespace", 1].template, _SPACES),
    "regrole": Guard(GUARDED["to_regrole", 1].template),
    "regcollation": Guard(_named(f"{_OID}::pg_catalog.regcollation", "collations", _to("regcollation"))),
}
"""Casts to types that print the name of an object."""


def printing_type(type_name: str) -> str:
    """The type of a system relation's column, where it is one that prints names; empty for others."""
    return type_name if type_name in CASTS else ""


EXTRA_FUNCTIONS = frozenset({*PLAIN, *(name for name, _ in GUARDED), *SIZES, "pg_get_expr"})
"""Every function that a session's rewritten statement may call besides those of jobs."""
