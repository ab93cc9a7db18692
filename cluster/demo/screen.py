"""How the demo looks: lines of at most 80 columns, and whatever the reader may want to copy on one line of its own.

Called by `python -m cluster.demo`. Decides nothing about what runs.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cluster.demo.acts import Shown

ACT = 27
RESULT = 28
WIDEST = 100


class Screen:
    """Standard output; colours on a terminal only."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._width = min(WIDEST, shutil.get_terminal_size((80, 24)).columns)

    def say(self, text: str, style: str = "") -> None:
        """Never folded by us: a terminal folds long lines without breaking what is copied."""
        self._console.print(text, style=style, soft_wrap=True, markup=False)

    def fail(self, text: str, code: int) -> int:
        self.say(text, "bold red")
        return code

    def head(self) -> None:
        self.say("")
        self.say(self._line("act", "jobs", "p50 ms", "p95 ms", "what came out"), "bold")
        self.say("  ".join("─" * width for width in (ACT, 4, 6, 6, RESULT)), "dim")

    def show(self, shown: Shown) -> None:
        """One act; its times are those from submission to data written, or what the act says."""
        self.say(self._line(shown.act, shown.jobs, _ms(shown.p50_ms), _ms(shown.p95_ms), shown.result))

    def refusals(self, refusals: list[tuple[str, str, str]]) -> None:
        """The statements that were denied, each with what its author was told."""
        self.say("\nDenied before they reached the database, and what the caller was told", "bold")
        for statement, rule, reason in refusals:
            self.say(f"  {statement}")
            indent = "    "
            told = textwrap.fill(f"{rule}: {reason}", self._width, initial_indent=indent, subsequent_indent=indent)
            self.say(told, "dim")

    def programs(self, told: list[tuple[str, str, str]], why_not: str) -> None:
        """The hostile programs, each with its ending; or why none was run."""
        if why_not:
            self.say(f"\nThe acts in sandboxes were left out. {why_not[:1].upper()}{why_not[1:]}", "bold")
            return
        self.say("\nPrograms that meant harm, each ended in its own sandbox while honest code ran beside it", "bold")
        for name, ending, message in told:
            self.say(f"  {name:26}  {ending:12}  {message}")

    def results(self, volume: Path, files: str) -> None:
        """Where the files are, and how to look at them."""
        self.say("\nResults: TENANT/JOB/manifest.json and TENANT/JOB/ATTEMPT/part-*.parquet, below", "bold")
        self.say(f"  {volume}")
        self.say("Ask the Parquet of the whole table, where DuckDB has just counted its rows:", "bold")
        sql = "select carrier, count(*) as flights, avg(arr_delay) as delay from t group by all order by all"
        code = f'import duckdb; t = duckdb.read_parquet("{_relative(Path(files))}"); print(duckdb.sql("{sql}"))'
        self.say(f"  {_relative(Path(sys.executable))} -c {shlex.quote(code)}")

    def next_steps(self) -> None:
        """What to type to have the cluster for oneself; it needs the broker that an embedded demo does without."""
        self.say("Try your own statements, in two terminals:", "bold")
        sandpool = _relative(Path(sys.executable).with_name("sandpool"))
        self.say(f"  {sandpool} up --local")
        statement = "'select * from airlines'"
        self.say(f"  {sandpool} sql --config .sandpool/local/sandpool.toml -d flights {statement}")

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """A bar while jobs run, gone afterwards; nothing where standard output is no terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        disable = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=disable) as progress:
            bar = progress.add_task("jobs", total=total)
            yield lambda done: progress.update(bar, completed=done)

    @staticmethod
    def _line(act: str, jobs: object, p50: str, p95: str, result: str) -> str:
        return f"{act:{ACT}}  {jobs!s:>4}  {p50:>6}  {p95:>6}  {result}"


def _ms(time_ms: float) -> str:
    return f"{time_ms:,.0f}" if time_ms >= 100 else f"{time_ms:.1f}"


def _relative(path: Path) -> str:
    """As short as it can be typed in the current folder. Links are kept: a virtual environment's python is one."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
