"""What `sandpool up --config FILE` does, and a file that appears when jobs are taken. Run by `sandpool_peer` as a
process.

`python -m benchmarks.peers.sandpool_up CONFIG READY`: the command line itself only prints that it is ready, for
people.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.conductor import up
from cluster.settings import load


def main(config: Path, ready: Path) -> int:
    return up(load(config), config, on_ready=ready.touch, on_state=lambda state: print(state, flush=True))


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:])))
