"""The review that made workers/sql/policy/data/duckdb_functions.txt from DuckDB's own catalog.

`review` keeps what is free of side effects and tells nothing about server, files, settings or session. Used by
test_policy_function_list.py, and as a program to write the file again: `python duckdb_function_review.py > FILE`.
"""

from __future__ import annotations

import re

import duckdb

QUERY = """
SELECT DISTINCT function_name, function_type, coalesce(max(stability), '')
FROM duckdb_functions() WHERE internal GROUP BY ALL ORDER BY 1
"""

TABLE_FUNCTIONS = {
    "range": "range",
    "generate_series": "generate_series",
    "unnest": "",
    "json_each": "key,value,type,atom,id,parent,fullkey,path",
    "json_tree": "key,value,type,atom,id,parent,fullkey,path",
}
VOLATILE_ALLOWED = frozenset({
    "random", "gen_random_uuid", "uuid", "uuidv4", "uuidv7", "now", "today", "current_date", "get_current_time",
    "get_current_timestamp", "transaction_timestamp", "error",
})  # fmt: skip
_REFUSED = re.compile(
    r"""^(?:
      __.*|pg_(?!size_pretty|typeof).*|has_.*|inet_.*|current_(?!date|localtime|localtimestamp).*|session_user|user|version
    |
    .*description|col_description|format_pg_type|format_type|map_to_pg_oid|in_search_path|getvariable|getenv|get_block_size
    |
    json_(?:serialize|deserialize)_.*|json_execute.*|parse_duckdb_log_message|write_log|stats|vector_type|nextval|currval|setval
    |
    sleep_ms|setseed|txid_current|create_sort_key|index_key|can_cast_implicitly|cast_to_type|to_aggregate_state|combine
    | finalize|collate_.*|icu_.*|hive_partition_component|invoke|apply|reduce|filter|variant_to_parquet_variant
    | variant_bytes_to_variant|timetz_byte_comparable|bitstring_byte_comparable|constant_or_null|is_histogram_other_bin
    | vertex_extract|remap_struct|assert_true|unpivot_list|combine_aggr|replace_type|get_type
    )$""",
    re.VERBOSE,
)


def review(rows: list[tuple[str, str, str]]) -> dict[str, str]:
    """Name -> its columns in FROM, comma-separated."""
    allowed = dict(TABLE_FUNCTIONS)
    for name, kind, stability in rows:
        if (
            kind not in ("scalar", "aggregate", "macro", "window")
            or " " in name
            or name in allowed
            or _REFUSED.match(name)
        ):
            continue
        if stability == "VOLATILE" and name not in VOLATILE_ALLOWED:
            continue
        allowed[name] = ""
    # The grammar's own: they are in no catalog.
    return allowed | {
        "if": "",
        "ifnull": "",
        "list_value": "",
        "struct_pack": "",
        "row": "",
        "grouping": "",
        "grouping_id": "",
        "alias": "",
    }


def catalog_rows() -> list[tuple[str, str, str]]:
    """What this DuckDB has."""
    return duckdb.connect().execute(QUERY).fetchall()


if __name__ == "__main__":
    reviewed = review(catalog_rows())
    for entry in sorted(reviewed):
        print(f"{entry} {reviewed[entry]}".rstrip())
