"""The review that made workers/sql/policy/data/postgres_functions.txt from PostgreSQL's own catalog.

`QUERY` asks a server; `review` keeps what is free of side effects and tells nothing about the server. Used by
test_policy_function_list.py to compare the file with a live server, and as a program to write it again:

    psql -At -F'|' -f <(python policy_function_review.py --query) | python policy_function_review.py > FILE

Give it the rows of several server versions at once: the file is their union.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

QUERY = """
SELECT p.proname, p.provolatile::text, p.prokind::text,
       coalesce((SELECT string_agg(a.n, ',' ORDER BY a.i)
                   FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY a(n, m, i)
                  WHERE a.m IN ('o', 't', 'b')), '') AS outs,
       format_type(p.prorettype, NULL) AS returns,
       p.proretset::text,
       coalesce((SELECT string_agg(format_type(t, NULL), ',' ORDER BY i)
                   FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(t, i)), '') AS args
  FROM pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384
 ORDER BY 1, 7
"""

# Volatile, and yet wanted: they change nothing and tell nothing but a random number or the time.
VOLATILE_ALLOWED = frozenset({
    "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "clock_timestamp", "timeofday",
})  # fmt: skip

# Types that only the server's own machinery passes around, or that resolve names of objects.
_TYPES_REFUSED = frozenset({
    "internal", "cstring", "trigger", "event_trigger", "language_handler", "fdw_handler", "index_am_handler",
    "table_am_handler", "tsm_handler", "pg_ddl_command", "void", "oid", "regclass", "regproc", "regprocedure",
    "regoper", "regoperator", "regtype", "regrole", "regnamespace", "regcollation", "aclitem", "aclitem[]",
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary", "refcursor", "xid", "xid8", "cid", "tid", "txid_snapshot", "pg_snapshot", "pg_lsn",
    "oidvector", "int2vector", "oid[]", "pg_attribute[]", "pg_type[]",
})  # fmt: skip

# Full text search takes a configuration: these keep their regconfig or regdictionary argument.
_NAMES_REFUSED = re.compile(
    r"""^(?:
      pg_.*|lo_.*|has_.*|inet_(?:client|server)_.*|txid_.*|currval|lastval|nextval|setval|setseed|set_config
    |
    current_(?:database|query|schema|schemas|setting|user)|session_user|version|row_security_active|getdatabaseencoding
    | .*_to_xml(?:schema|_and_xmlschema)?|ts_rewrite|ts_stat|ts_debug|cursor_.*|database_.*|query_.*|schema_.*|table_.*
    | acl.*|makeaclitem|format_type|to_reg.*|reg.*(?:in|out|send|recv)|col_description|obj_description|shobj_description
    | binary_upgrade_.*|currtid.*|loread|lowrite|amvalidate|icu_unicode_version|unicode_version|system
    | brin_.*|gin_.*|gist_.*|spg_.*|bthandler|hashhandler|.*handler|.*_support|satisfies_hash_partition
    | unique_key_recheck|suppress_redundant_updates_trigger|RI_.*|fmgr_.*|plpgsql_.*|json_populate_type
    | get_.*_ddl|get_current_ts_config|getpgusername|system_user|mxid_age|age_xid|.*typmodin|.*_transfn|.*send
    |enum_(?:in|out|send|recv)|record_(?:in|out|send|recv)|any.*_(?:in|out)
    )$""",
    re.VERBOSE | re.IGNORECASE,
)
_PG_ALLOWED = frozenset({"pg_typeof", "pg_column_size", "pg_size_pretty", "pg_size_bytes"})
# Its OUT columns belong to one of its forms only; the check treats its columns as unknown.
_NO_COLUMNS = frozenset({"unnest"})


def review(rows: Iterable[list[str]]) -> dict[str, str]:
    """Name -> its OUT columns, comma-separated, for every function that a query may call."""
    allowed: dict[str, str] = {}
    for name, volatility, kind, outs, returns, _retset, args in rows:
        types = {t for t in (returns, *args.split(",")) if t}
        if kind == "p" or (name not in _PG_ALLOWED and _NAMES_REFUSED.match(name)):
            continue
        if volatility == "v" and name not in VOLATILE_ALLOWED:
            continue
        if name != "pg_typeof" and types & _TYPES_REFUSED:
            continue
        allowed[name] = allowed.get(name) or ("" if name in _NO_COLUMNS else outs)
    return allowed


def main() -> None:
    """Writes the query, or turns its rows on stdin into the file."""
    if "--query" in sys.argv:
        print(QUERY)
        return
    allowed = review(line.rstrip("\n").split("|") for line in sys.stdin)
    for name in sorted(allowed):
        print(f"{name} {allowed[name]}".rstrip())


if __name__ == "__main__":
    main()
