"""The demo's acts in sandboxes: code that makes something of a result, and programs that nobody should run elsewhere.

Like `acts`: through the client only, each checks what it claims and raises DemoFailed. Called by `cluster.demo.play`
where sandboxes are possible, and by end-to-end tests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from cluster.demo.acts import TIMEOUT_S, DemoFailed, Shown, check, shown_of, succeeded
from sandpool import Client, Ending, Outcome, PythonJob, SqlJob

IMAGE = "data"
DELAYS = "select carrier, arr_delay from flights where arr_delay is not null"
MEANS = "select carrier, avg(arr_delay)::float8 as delay from flights where arr_delay is not null group by 1 order by 1"
PLOT = """
import glob
import matplotlib.pyplot as plt
import pandas as pd

flights = pd.concat(pd.read_parquet(part) for part in sorted(glob.glob("/in/flights/*")))
delays = flights.groupby("carrier")["arr_delay"].mean().sort_index()
delays.sort_values().plot.barh(title="Mean arrival delay, minutes")
plt.savefig("delays.png")
delays.rename("delay").reset_index()
"""
INSIDE = """
import glob, os
import pandas as pd, psycopg, sqlalchemy as sa

engine = sa.create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
delays = pd.read_sql("select carrier, avg(arr_delay) delay from flights group by 1", engine)
print(len(delays), "carriers by pandas and SQLAlchemy")
print({name: value for name, value in os.environ.items() if name.startswith("PG") or "URL" in name})
places = [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]
print(sum(b"passw" in open(place, "rb").read().lower() for place in places), "secrets in /proc")
states = []
hostile = "drop table flights", "select * from pg_authid", "set role postgres", "select pg_read_file('/etc/passwd')"
for text in hostile:
    try:
        psycopg.connect("", autocommit=True).execute(text)
    except psycopg.Error as error:
        states.append(error.sqlstate)
print("refused", *states)
clients = [psycopg.connect("", autocommit=True) for _ in range(200)]
print(sum(client.execute("select 1").fetchone()[0] for client in clients), "clients answered")
"""
HONEST = "sum(range(1000))"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that means harm, and how it may end."""

    name: str
    code: str
    endings: frozenset[Ending]


PROGRAMS = (
    Program(
        "fork bomb",
        "import os\nwhile True:\n    os.fork()",
        frozenset({Ending.Failed, Ending.OutOfMemory, Ending.TimedOut}),
    ),
    Program("memory hog", "x = [b'x' * (1 << 24) for _ in range(1000)]", frozenset({Ending.OutOfMemory})),
    Program("endless output", "while True:\n    print('x' * 1000)", frozenset({Ending.OutputCapped})),
    Program("endless loop", "while True:\n    pass", frozenset({Ending.TimedOut})),
    Program(
        "disk filler", "f = open('fill', 'wb')\nwhile True:\n    f.write(b'x' * (1 << 20))", frozenset({Ending.Failed})
    ),
    Program("reading the host's files", "open('/etc/shadow').read()", frozenset({Ending.Failed})),
    Program(
        "opening a socket",
        "import socket\nsocket.create_connection(('169.254.169.254', 80), timeout=5)",
        frozenset({Ending.Failed}),
    ),
)
PROGRAM_TIMEOUT_S = 6.0


def plot_delays(client: Client) -> Shown:
    """A Python job reads the Parquet that a SQL job wrote, and leaves a figure and a table."""
    rows = succeeded(client.submit(SqlJob(database="flights", sql=DELAYS, timeout_s=TIMEOUT_S)).outcome(TIMEOUT_S))
    inputs = {f"flights/{n:05}.parquet": f"{rows.volume}:{part.key}" for n, part in enumerate(rows.manifest.parts)}
    job = PythonJob(code=PLOT, name="delays.py", image=IMAGE, inputs=inputs, outputs=("*.png",), timeout_s=TIMEOUT_S)
    outcome = succeeded(client.submit(job).outcome(TIMEOUT_S))
    figure = outcome.read_file("delays.png")
    check(figure.startswith(b"\x89PNG"), f"the figure is no PNG: {figure[:8]!r}")
    counted = succeeded(client.submit(SqlJob(database="flights", sql=MEANS)).outcome(TIMEOUT_S)).table().to_pylist()
    html = next((each for each in outcome.manifest.displays if each.type == "text/html"), None)
    check(html is not None, "the table came without its HTML")
    missing = [row["carrier"] for row in counted if f"{row['delay']:.6f}" not in outcome.value]
    check(not missing, f"PostgreSQL has other means for {missing}:\n{outcome.value}")
    return shown_of("plot delays in a sandbox", [outcome], f"{len(counted)} carriers, {len(figure) / 1e3:.0f} kB PNG")


def database_inside(client: Client) -> Shown:
    """Code reaches a database by ordinary drivers, holds no secret, is refused what the policy refuses, and 200 clients
    of it share the few connections of the pool."""
    job = PythonJob(code=INSIDE, name="inside.py", image=IMAGE, databases=("flights",), timeout_s=TIMEOUT_S)
    outcome = succeeded(client.submit(job).outcome(TIMEOUT_S))
    lines = outcome.stdout.splitlines()
    check(lines[0].startswith("16 carriers"), f"pandas saw {lines[0]}")
    check(lines[2].startswith("0 secrets"), f"the sandbox holds {lines[2]}")
    states = lines[3].split()[1:]
    check(len(states) == 4 and all(len(state) == 5 for state in states), f"of four statements were refused: {states}")
    check(lines[4].startswith("200 clients"), lines[4])
    return shown_of("a database inside", [outcome], f"no secret, 4 of 4 refused ({states[0]}), {lines[4]}")


def code_one_at_a_time(client: Client, count: int = 20) -> Shown:
    """Code in a fresh sandbox each time, as a waiting agent feels it."""
    outcomes, times_ms = [], []
    for number in range(count):
        job = PythonJob(code=f"{number} * 2", image=IMAGE, priority="interactive")
        started = time.perf_counter()
        outcomes.append(succeeded(client.submit(job).outcome(TIMEOUT_S)))
        times_ms.append(1000 * (time.perf_counter() - started))
        check(outcomes[-1].value == str(number * 2), f"{number} * 2 is {outcomes[-1].value}")
    ordered = sorted(times_ms)
    return Shown("code, one at a time", count, "a new sandbox each", ordered[count // 2], ordered[int(count * 0.95)])


def hostile_programs(client: Client) -> tuple[Shown, list[tuple[str, str, str]]]:
    """Programs that mean harm, each beside honest code; (program, ending, what the caller was told) of each."""
    told: list[tuple[str, str, str]] = []
    outcomes: list[Outcome] = []
    for program in PROGRAMS:
        harm = client.submit(PythonJob(code=program.code, image=IMAGE, timeout_s=PROGRAM_TIMEOUT_S))
        honest = client.submit(PythonJob(code=HONEST, image=IMAGE))
        check(succeeded(honest.outcome(TIMEOUT_S)).value == "499500", f"honest code went wrong beside a {program.name}")
        outcome = harm.outcome(TIMEOUT_S)
        if outcome.ending not in program.endings or outcome.error is None:
            raise DemoFailed(f"the {program.name} ended {outcome.ending}: {outcome.error}")
        outcomes.append(outcome)
        told.append((program.name, str(outcome.ending), outcome.error.message))
    return shown_of("hostile programs", outcomes, f"{len(outcomes)} of {len(PROGRAMS)} ended, all else ran"), told
