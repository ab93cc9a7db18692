"""Runs jobs in sandboxes of one host.

In import order: `errors`, `globs` (what an output pattern means), `staging` (volumes -> /in), `endings` (how it ended:
the decision), `collecting` (what code left -> volume), `programs` (our own code that runs inside), `table` (results
that are tables), `run` (one task, from lease to attempt), `desk` (all tasks of one host).
"""
