"""What happens in a chaos run: which jobs, and which fault after how many endings. Pure: a seed gives one plan."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sandpool import Ending, Extraction, Job, PythonJob, SqlJob

SMALL = "select carrier, count(*) as n from flights where origin = $1 and month = $2 and day = $3 group by carrier"
LARGE = "select * from flights where month = "
MARK = "insert into marks (job, noted) values ($1, $2)"
ATTEMPTS = 50
"""Enough that no job of a run that heals ends because of the faults."""

FAULTS = (
    "kill the scheduler",
    "kill the pools",
    "kill the hosts",
    "restart the cluster",
    "kill everything of the cluster",
    "restart the database",
    "kill the database",
    "restart the broker",
    "kill the broker",
    "cut the database off",
    "reset connections to the database",
    "stall the database",
    "slow the database",
    "drop connections to the broker",
    "reset connections to the broker in mid-message",
    "stall the broker",
    "slow the broker",
    "fill the volume",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One job and how it must end."""

    job: Job
    ending: Ending
    said: str = ""
    """Code: what it must have printed."""
    mark: str = ""
    """A write: it must leave this mark exactly once."""
    cancel: bool = False
    """Cancelled after it was submitted: `Cancelled`, or `ending` where it was faster."""


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    after: int
    """Endings seen before it happens."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]


def plan(seed: int, jobs: int, faults: int) -> Plan:
    """The plan of this seed. Every fault happens once before any happens twice."""
    random = Random(seed)
    steps = tuple(_step(random, f"chaos-{seed}-{number:05d}") for number in range(jobs))
    names: list[str] = []
    while len(names) < faults:
        names += random.sample(FAULTS, len(FAULTS))
    # The last tenth is left in peace, so that what was broken has work to show that it is whole again.
    moments = sorted(random.randrange(jobs // 50, jobs * 9 // 10) for _ in range(faults))
    return Plan(seed, steps, tuple(Fault(name, after) for name, after in zip(names, moments, strict=False)))


def _step(random: Random, job_id: str) -> Step:
    kind = random.choices(
        ("read", "write", "large", "ranges", "denied", "failing", "cancelled", "code"), (70, 15, 0.5, 0.3, 5, 5, 4.2, 1)
    )[0]
    common = {"id": job_id, "max_attempts": ATTEMPTS, "timeout_s": 120.0}
    flights = {**common, "database": "flights"}
    month = random.randint(1, 12)
    match kind:
        case "write":
            params = (job_id, random.randint(1, 1000))
            job = SqlJob(**common, database="ledger", sql=MARK, params=params, writes=True)  # type: ignore[arg-type]
            return Step(job, Ending.Succeeded, mark=job_id)
        case "large":
            return Step(SqlJob(**flights, sql=f"{LARGE}{month}"), Ending.Succeeded)  # type: ignore[arg-type]
        case "ranges":
            how = Extraction(column="day", parts=3)
            return Step(SqlJob(**flights, sql=f"{LARGE}{month}", extraction=how), Ending.Succeeded)  # type: ignore[arg-type]
        case "code":
            job = PythonJob(**common, image="base", code=f"print({month} * 7)", databases=())  # type: ignore[arg-type]
            return Step(job, Ending.Succeeded, said=f"{month * 7}\n")
        case "denied":
            return Step(SqlJob(**flights, sql="select * from pg_shadow"), Ending.Denied)  # type: ignore[arg-type]
        case "failing":
            return Step(SqlJob(**flights, sql="select 1 / (month - month) from flights"), Ending.Failed)  # type: ignore[arg-type]
        case _:
            params = (random.choice(("EWR", "JFK", "LGA")), month, random.randint(1, 28))
            job = SqlJob(**flights, sql=SMALL, params=params)  # type: ignore[arg-type]
            return Step(job, Ending.Succeeded, cancel=kind == "cancelled")
