"""What Sandpool promises in figures, each promise measured beside its peer in the same run.

`python -m benchmarks` (`make bench`) runs them; docs/specification.md holds the last table. Nothing here is shipped,
and nothing in the other packages knows of it. A missed budget is printed, it is no error: see `--strict`.
"""
