"""`python -m cluster ...` is the command line `sandpool ...`, for where no console script is installed."""

from cluster.cli import main

main()
