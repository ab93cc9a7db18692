"""Our own code that runs inside a sandbox of image `data`, beside the tenant's: never imported on the host, only sent.

`tables` turns what code left into one Parquet file, `engines` runs a statement on DuckDB or SQLite. What they say is
not trusted by the host, for the tenant's code ran in the same process.
"""
