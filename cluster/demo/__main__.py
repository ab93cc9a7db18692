"""`make demo`: the main job on real servers and real data, with nothing left running.

    python -m cluster.demo [--folder .sandpool/demo] [--nodes 3]

Starts a private RabbitMQ, a private PostgreSQL and a local Ray through `sandpool up`, plays the acts of
`cluster.demo.acts`, shows what came out and stops everything, also on Ctrl-C. Where no broker is installed it plays the
same acts embedded: the in-memory broker and, if need be, a PostgreSQL from a wheel. Exit codes: 0; 1 an act failed;
2 a server could not be started, or the folder is not ours; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from cluster.demo import acts, sandbox_acts
from cluster.demo.house import LOG, House, open_house
from cluster.demo.screen import Screen
from cluster.local.errors import LocalServiceError
from sandpool.errors import SandpoolError

MARKER = "made-by-the-demo"


class FolderTaken(Exception):
    """The demo's folder holds files of somebody else."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--folder", type=Path, default=Path(".sandpool/demo"), help="for all that the demo writes")
    parser.add_argument("--nodes", type=int, default=1, choices=range(1, 9), help="Ray nodes; one of several is killed")
    wanted = parser.parse_args()
    folder: Path = wanted.folder.resolve()
    screen = Screen()
    stop_on_signals(screen)
    started = time.perf_counter()
    try:
        empty(folder)
        with open_house(folder, screen.say, wanted.nodes) as house:
            play(house, screen)
            screen.say("\nStopping everything")
    except (acts.DemoFailed, SandpoolError) as error:
        return screen.fail(f"The demo failed: {error}\nThe cluster's log: {folder / LOG}", 1)
    except (LocalServiceError, FolderTaken) as error:
        return screen.fail(str(error), 2)
    except KeyboardInterrupt:
        return screen.fail("Interrupted; everything is stopped", 130)
    screen.say(f"Done in {time.perf_counter() - started:.0f} s; nothing is left running")
    return 0


def stop_on_signals(screen: Screen) -> None:
    """Ctrl-C and `kill` tear everything down in order; the second one leaves at once."""
    asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal asked
        if asked:
            # Not a loss of order: every server is on a leash that ends it, and deletes its files, when we are gone.
            os._exit(130)
        asked = True
        screen.say("\nStopping everything; Ctrl-C again leaves at once")
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)


def empty(folder: Path) -> None:
    """A new `folder` for this run. What an earlier demo left there is deleted, and nothing else ever is."""
    marker = folder / MARKER
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise FolderTaken(f"{folder} holds files that are not the demo's: name another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o755)
    marker.write_text("Written by `make demo`; the next one deletes this folder.\n", "utf-8")


def play(house: House, screen: Screen) -> None:
    """Every act, each shown as it ends."""
    with house.client("acme") as acme, house.client("UA") as airline:
        screen.head()
        screen.show(acts.first_job(acme))
        with screen.progress(200) as advance:
            small = acts.small_queries(acme, advance)
        screen.show(small)
        screen.show(acts.one_at_a_time(acme))
        if len(house.raylets) > 1:
            with screen.progress(acts.NODE_JOBS) as advance:
                survived = acts.lose_a_node(acme, house.raylets, advance)
            screen.show(survived)
        extraction = acts.extraction(acme, house.volume)
        screen.show(extraction)
        screen.show(acts.tenant_view(airline))
        screen.show(acts.write_twice(acme, booking=int(time.time())))
        denied, refusals = acts.hostile_statements(acme)
        screen.show(denied)
        told: list[tuple[str, str, str]] = []
        if not house.why_no_sandboxes:
            screen.show(sandbox_acts.plot_delays(acme))
            screen.show(sandbox_acts.database_inside(acme))
            screen.show(sandbox_acts.code_one_at_a_time(acme))
            hostile, told = sandbox_acts.hostile_programs(acme)
            screen.show(hostile)
    screen.refusals(refusals)
    screen.programs(told, house.why_no_sandboxes)
    screen.results(house.volume, extraction.files)
    if house.pid is not None:
        screen.next_steps()


if __name__ == "__main__":
    sys.exit(main())
