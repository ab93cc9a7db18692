"""The duckdb dialect: DuckDB's own parser gives the tree (json_serialize_sql), it is checked and rewritten, DuckDB
prints it."""
