"""The command line `sandpool`: one file per command, loaded only when it is called.

`cluster.cli:main` is the console entry point. Commands are thin: they read options, call the client or the cluster, and
print. Data goes to standard output, talk to standard error.
"""

from cluster.cli.root import main

__all__ = ["main"]
