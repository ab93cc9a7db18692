"""`make bench`: run the benchmarks, print their tables, and if asked put them into docs/specification.md.

Exit codes: 0 done (a missed budget is printed, no more), 1 a benchmark failed, 3 with --strict when a budget was
missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    broker,
    extract,
    jobs,
    latency,
    nodes,
    placement,
    recovery,
    sandbox_density,
    sandbox_life,
    sandbox_start,
    simulation,
    submit,
    verdict,
)
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.services import Services, open_services
from benchmarks.tables import as_markdown, as_text, update_document

ON_SERVERS: dict[str, Callable[[Services, Options], Report]] = {
    module.NAME: module.run for module in (jobs, latency, extract, verdict, broker, submit)
}
ALONE: dict[str, Callable[[Options], Report]] = {
    module.NAME: module.run
    for module in (sandbox_start, sandbox_life, sandbox_density, placement, simulation, nodes, recovery)
}
"""Those need no servers, or start their own; so these are only started when something else is asked for."""
BENCHMARKS = (*ON_SERVERS, *ALONE)
DOCUMENT = Path(__file__).resolve().parents[1] / "docs/specification.md"
MISSED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    options = Options(quick=asked.quick, profile=asked.profile, silent=asked.json)
    reports: list[Report] = []
    names = asked.names or BENCHMARKS
    machine, versions = describe_machine(), describe_versions("")

    def keep(report: Report) -> None:
        reports.append(report)
        if not asked.json:
            print(as_text(report), end="\n\n", flush=True)

    if any(name in ON_SERVERS for name in names):
        # A short name: Ray puts sockets below it, whose path may have 107 bytes.
        with tempfile.TemporaryDirectory(prefix="spb-") as folder:
            options.say("starting RabbitMQ and PostgreSQL, loading flights")
            with open_services(Path(folder)) as services:
                versions = describe_versions(services.describe())
                for name in names:
                    if name in ON_SERVERS:
                        keep(ON_SERVERS[name](services, options))
    for name in names:
        if name in ALONE:
            keep(ALONE[name](options))
    missed = [budget for report in reports for budget in report.budgets if not budget.met]
    if asked.json:
        print(
            json.dumps({"machine": machine, "versions": versions, "quick": options.quick, "reports": _plain(reports)})
        )
    else:
        print(f"{machine}\n{versions}\n{len(missed)} of {sum(len(r.budgets) for r in reports)} budgets missed")
    if asked.markdown:
        head = f"Measured on {machine}.\n\n{versions}.\n\n" + (
            "A quick run: not to be quoted.\n\n" if options.quick else ""
        )
        update_document(DOCUMENT, {report.name: head + as_markdown(report) for report in reports})
    return MISSED if missed and asked.strict else 0


def _plain(reports: Sequence[Report]) -> list[dict[str, object]]:
    return [{**asdict(r), "budgets": [{**asdict(b), "met": b.met} for b in r.budgets]} for r in reports]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (all): {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="few jobs, one round: does it work, not how fast is it")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else")
    parser.add_argument("--markdown", action="store_true", help="put the tables into docs/specification.md")
    parser.add_argument("--strict", action="store_true", help=f"exit {MISSED} when a budget was missed")
    parser.add_argument("--profile", action="store_true", help="say where our own CPU time goes (needs py-spy)")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
