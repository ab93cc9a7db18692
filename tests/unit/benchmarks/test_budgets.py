"""A budget is judged on ratios within one round, so that a machine that slows down between rounds changes nothing."""

from __future__ import annotations

import pytest

from benchmarks import jobs, latency
from benchmarks.jobs import Turn
from benchmarks.peers.peer import Run
from benchmarks.services import CpuSeconds

CPU = CpuSeconds(submitter=1.0, workers=2.0, broker=0.5, database=0.5)


def turn(jobs_per_s: float, latency_s: float = 0.01) -> Turn:
    return Turn(Run(wall_s=100 / jobs_per_s, latencies_s=[latency_s] * 100), CPU, jobs=100)


def test_a_slower_round_for_everybody_changes_no_ratio() -> None:
    turns = {
        "Sandpool": [turn(600), turn(60), turn(600)],
        "taskiq": [turn(400), turn(40), turn(400)],
        "Celery": [turn(200), turn(20), turn(200)],
        "bare asyncpg": [turn(1000), turn(100), turn(1000)],
    }
    assert [round(budget.measured, 6) for budget in jobs._budgets(turns)] == [1.5, 3.0, 60.0]
    assert all(budget.met for budget in jobs._budgets(turns))


def test_one_lucky_round_meets_no_budget() -> None:
    turns = {
        "Sandpool": [turn(400), turn(4000), turn(400)],
        "taskiq": [turn(400)] * 3,
        "Celery": [turn(400)] * 3,
        "bare asyncpg": [turn(4000)] * 3,
    }
    assert not any(budget.met for budget in jobs._budgets(turns))


def test_latency_is_judged_against_the_documented_way_only_where_that_was_measured() -> None:
    turns = {"Sandpool": [turn(1, 0.010)], "taskiq": [turn(1, 0.008)]}
    (best,) = latency._budgets(turns)
    assert best.measured == pytest.approx(1.25)
    assert not best.met
    turns["taskiq, results by Redis polled every 1 ms"] = [turn(1, 0.020)]
    assert [budget.met for budget in latency._budgets(turns)] == [False, True]


def test_cpu_of_a_run_is_the_difference_of_every_part() -> None:
    spent = CpuSeconds(5.0, 4.0, 3.0, 2.0) - CPU
    assert (spent.submitter, spent.workers, spent.broker, spent.database) == (4.0, 2.0, 2.5, 1.5)
    assert spent.total == 10.0
