"""The functions in workers/sql/policy/data/sqlite_functions.txt, chosen by hand from SQLite's documentation.

SQLite has no column that says what a function may do, so this list is kept by hand; test_policy_function_list.py
checks that
the SQLite at hand knows them. Left out: load_extension, readfile, writefile, edit, randomblob and zeroblob (memory),
sqlite_* (environment), changes, total_changes, last_insert_rowid (session), fts and rtree helpers.
"""

from __future__ import annotations

_NAMES = (
    "abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count "
    "cume_dist date datetime degrees dense_rank exp first_value floor format glob group_concat hex if ifnull iif "
    "instr json json_array json_array_length json_error_position json_extract json_group_array json_group_object "
    "json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type "
    "json_valid jsonb jsonb_array jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object "
    "jsonb_patch jsonb_remove jsonb_replace jsonb_set julianday lag last_value lead length like likelihood likely "
    "ln log log10 log2 lower ltrim max median min mod nth_value ntile nullif octet_length percent_rank percentile "
    "percentile_cont percentile_disc pi pow power printf quote radians random rank replace round row_number rtrim "
    "sign sin sinh soundex sqrt strftime string_agg substr substring sum tan tanh time timediff total trim trunc "
    "typeof unhex unicode unixepoch unlikely upper -> ->> regexp current_date current_time current_timestamp"
)
FUNCTIONS = _NAMES.split()
