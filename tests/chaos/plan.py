"""What happens in a chaos run: which jobs, and which fault after how many endings. Pure: a seed gives one plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from sandpool import Ending, Extraction, Job, PythonJob, SqlJob

SMALL = "select carrier, count(*) as n from flights where origin = $1 and month = $2 and day = $3 group by carrier"
LARGE = "select * from flights where month = "
OWNED = "select tenant, secret from owned where number = $1"
MARK = "insert into marks (job, noted) values ($1, $2)"
ATTEMPTS = 50
"""Enough that no job of a run that heals ends because of the faults."""

TENANTS = ("acme", "UA", "B6")
"""Who may use the database: the first submits the jobs, the others have sessions at the broker."""
OWNED_ROWS = 500
"""Of each tenant in the table `owned`, of which the policy shows each its own."""
INSIDE = """
import sandpool, time
while True:
    try:
        sql = "select {number} as number, tenant, secret from owned where number = $1"
        (row,) = sandpool.query("flights", sql, [{number}])
        break
    except (sandpool.QueryError, OSError):
        time.sleep(0.2)
print(row)
"""
"""What code in a sandbox asks its database for, until it hears an answer. It must be the right one."""

FAULTS = {
    "the cluster": (
        "kill the scheduler",
        "kill the pools",
        "kill the hosts",
        "hang the scheduler",
        "hang the pools",
        "hang the hosts",
        "kill the sandboxes",
        "let a node join and die",
        "restart the cluster",
        "kill everything of the cluster",
        "let the clock jump ahead",
        "let the clock jump back",
    ),
    "the database": (
        "restart the database",
        "kill the database",
        "cut the database off",
        "reset connections to the database",
        "stall the database",
        "slow the database",
    ),
    "the broker": (
        "restart the broker",
        "kill the broker",
        "drop connections to the broker",
        "reset connections to the broker in mid-message",
        "stall the broker",
        "slow the broker",
    ),
    "the volumes": (
        "fill the volume",
        "cut the object store off",
        "stall the object store",
        "slow the object store",
        "reset connections to the object store in mid-message",
        "fill the object store",
    ),
}
"""By what they break: those of one kind happen one after the other, those of different kinds also at the same time."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job and how it must end."""

    job: Job
    ending: Ending
    kind: str = ""
    """Of SHARES."""
    said: str = ""
    """Code: what it must have printed."""
    mark: str = ""
    """A write: it must leave this mark exactly once."""
    cancel: bool = False
    """Cancelled after it was submitted: `Cancelled`, or `ending` where it was faster."""


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    number: int
    """Among those of its kind, from 0."""
    after: int
    """Endings seen before it happens."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    steps: tuple[Step, ...]
    faults: dict[str, tuple[Fault, ...]]
    """By what they break, in their order."""


def plan(seed: int, jobs: int, rounds: int, now: datetime) -> Plan:
    """The plan of this seed: every fault `rounds` times, each once before any comes again. `now`: deadlines are
    moments."""
    random = Random(seed)
    steps = tuple(_step(random, f"chaos-{seed}-{number:05d}", now) for number in range(jobs))
    return Plan(seed, steps, {part: _faults(random, jobs, names, rounds) for part, names in FAULTS.items()})


def _faults(random: Random, jobs: int, kinds: tuple[str, ...], rounds: int) -> tuple[Fault, ...]:
    names = [name for _ in range(rounds) for name in random.sample(kinds, len(kinds))]
    # Apart, so that each meets work under way. The last tenth of the jobs is left in peace: what was broken then has
    # work to show that it is whole again.
    first, span = jobs // 50, jobs * 9 // 10 - jobs // 50
    moments = [first + int(span * (number + random.random()) / len(names)) for number in range(len(names))]
    return tuple(Fault(name, number, after) for number, (name, after) in enumerate(zip(names, moments, strict=True)))


SHARES = {
    "read": 60,
    "stored": 10,
    "write": 15,
    "large": 0.5,
    "ranges": 0.3,
    "denied": 4,
    "failing": 4,
    "late": 1,
    "cancelled": 4.2,
    "code": 0.6,
    "inside": 0.4,
}


def _step(random: Random, job_id: str, now: datetime) -> Step:
    kind = random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    return replace(_step_of(kind, random, job_id, now), kind=kind)


def _step_of(kind: str, random: Random, job_id: str, now: datetime) -> Step:
    # No clock that jumps by days comes near this deadline.
    deadline = now + timedelta(days=30) if random.random() < 0.2 else None
    common = {"id": job_id, "max_attempts": ATTEMPTS, "timeout_s": 120.0, "deadline": deadline}
    flights = {**common, "database": "flights"}
    month, number = random.randint(1, 12), random.randint(1, OWNED_ROWS)
    small = {"sql": SMALL, "params": (random.choice(("EWR", "JFK", "LGA")), month, random.randint(1, 28))}
    match kind:
        case "write":
            params = (job_id, number)
            job = SqlJob(**common, database="ledger", sql=MARK, params=params, writes=True)  # type: ignore[arg-type]
            return Step(job, Ending.Succeeded, mark=job_id)
        case "large":
            volume = random.choice(("results", "bucket"))
            return Step(SqlJob(**flights, sql=f"{LARGE}{month}", volume=volume), Ending.Succeeded)  # type: ignore[arg-type]
        case "ranges":
            how = Extraction(column="day", parts=3)
            return Step(SqlJob(**flights, sql=f"{LARGE}{month}", extraction=how), Ending.Succeeded)  # type: ignore[arg-type]
        case "code":
            code = PythonJob(**common, image="base", code=f"print({month} * 7)")  # type: ignore[arg-type]
            return Step(code, Ending.Succeeded, said=f"{month * 7}\n")
        case "inside":
            text = INSIDE.replace("{number}", str(number))
            inside = PythonJob(**common, image="base", code=text, databases=("flights",))  # type: ignore[arg-type]
            row = {"number": number, "tenant": TENANTS[0], "secret": f"{TENANTS[0]}-{number}"}
            return Step(inside, Ending.Succeeded, said=f"{row}\n")
        case "denied":
            return Step(SqlJob(**flights, sql="select * from pg_shadow"), Ending.Denied)  # type: ignore[arg-type]
        case "failing":
            return Step(SqlJob(**flights, sql="select 1 / (month - month) from flights"), Ending.Failed)  # type: ignore[arg-type]
        case "late":
            late = {**flights, "deadline": now - timedelta(days=1)}
            return Step(SqlJob(**late, **small), Ending.TimedOut)  # type: ignore[arg-type]
        case "stored":
            return Step(SqlJob(**flights, **small, volume="bucket"), Ending.Succeeded)  # type: ignore[arg-type]
        case _:
            return Step(SqlJob(**flights, **small), Ending.Succeeded, cancel=kind == "cancelled")  # type: ignore[arg-type]
