"""What the command line asked for, as every benchmark receives it. Data only."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    quick: bool = False
    """Fewer jobs and one round: to see that everything works, not to quote."""
    profile: bool = False
    """Also say where our own time goes; slower, so its figures are not judged against peers."""
    silent: bool = False

    def say(self, line: str) -> None:
        """Progress, on stderr: stdout is for the results."""
        if not self.silent:
            print(line, file=sys.stderr, flush=True)
