"""The queries of the throughput and latency benchmarks: real questions to the flights data, the same for every peer.

One small aggregate (index scan of some 300 rows, up to 15 groups) over 180 sets of arguments: 3 airports x 12 months x
5 days, 60 questions for each airport. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

QUERY = (
    "select carrier, count(*) n, avg(arr_delay) delay from flights "
    "where origin=$1 and month=$2 and day=$3 group by carrier"
)
QUERY_PSYCOPG = QUERY.replace("$1", "%s").replace("$2", "%s").replace("$3", "%s")
"""The same for a driver with the DB-API's own placeholders."""
ORIGINS = ("JFK", "LGA", "EWR")
DAYS = (1, 7, 13, 19, 25)

Arguments = tuple[str, int, int]

ARGUMENTS: tuple[Arguments, ...] = tuple(product(ORIGINS, range(1, 13), DAYS))


@dataclass(frozen=True, slots=True)
class Call:
    """One job to do: its number in the run, and the query's arguments."""

    number: int
    arguments: Arguments


def calls(count: int) -> Sequence[Call]:
    """`count` jobs, going round the argument sets."""
    return [Call(number, ARGUMENTS[number % len(ARGUMENTS)]) for number in range(count)]
