"""`make demo`: the main job on real servers and real data, with nothing left running.

    python -m cluster.demo [--folder .sandpool/demo] [--keep]

Starts a private RabbitMQ, a private PostgreSQL and a local Ray through `sandpool up`, plays the acts of
`cluster.demo.acts`, prints what came out and stops everything, also on Ctrl-C. Where no broker can be installed it
plays the same acts embedded: the in-memory broker and, if need be, a PostgreSQL from a wheel.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cluster.demo import acts
from cluster.demo.house import House, open_house
from cluster.local.errors import LocalServiceError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--folder", type=Path, default=Path(".sandpool/demo"), help="everything the demo writes")
    arguments = parser.parse_args()
    # `kill` must tear everything down as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console()
    folder: Path = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o755)
    started = time.perf_counter()
    try:
        with open_house(folder, console.print) as house:
            play(house, console)
    except acts.DemoFailed as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        return 1
    except LocalServiceError as error:
        console.print(f"[bold red]{error}[/]")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    console.print(f"Done in {time.perf_counter() - started:.0f} s; nothing is left running.")
    return 0


def play(house: House, console: Console) -> None:
    """Every act, then the tables."""
    shown = []
    with house.client("acme") as acme, house.client("UA") as airline:
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("200 real queries", total=200)
            shown.append(acts.small_queries(acme, lambda done: progress.update(bar, completed=done)))
        shown.append(acts.one_at_a_time(acme))
        shown.append(acts.extraction(acme, house.volume))
        shown.append(acts.tenant_view(airline))
        shown.append(acts.write_twice(acme, booking=int(time.time())))
        line, refusals = acts.hostile_statements(acme)
        shown.append(line)
    console.print(_results(shown))
    console.print(_refusals(refusals))
    console.print(f"Results: {house.volume} (Parquet and manifest.json of each job, by tenant and job id)")


def _results(shown: list[acts.Shown]) -> Table:
    table = Table(title="What ran")
    table.add_column("act")
    table.add_column("jobs", justify="right")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    table.add_column("result")
    for line in shown:
        table.add_row(line.act, str(line.jobs), f"{line.p50_ms:.1f}", f"{line.p95_ms:.1f}", line.result)
    return table


def _refusals(refusals: list[tuple[str, str, str]]) -> Table:
    table = Table(title="What was denied")
    for name in ("statement", "rule", "reason"):
        table.add_column(name)
    for refusal in refusals:
        table.add_row(*refusal)
    return table


if __name__ == "__main__":
    sys.exit(main())
