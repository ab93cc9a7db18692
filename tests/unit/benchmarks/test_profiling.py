"""Samples become the functions that cost most, alone and with what they called."""

from __future__ import annotations

from benchmarks.profiling import cost_of_processes, hot_spots

STACKS = [
    "loop (a.py:1);run (a.py:2);encode (b.py:3) 6",
    "loop (a.py:1);run (a.py:2) 3",
    "loop (a.py:1);wait (c.py:1) 1",
]


def test_hot_spots_are_ordered_by_their_own_samples() -> None:
    alone = hot_spots(STACKS)[1:4]
    assert alone == [" 60.0 %  encode (b.py:3)", " 30.0 %  run (a.py:2)", " 10.0 %  wait (c.py:1)"]


def test_a_function_that_only_calls_others_counts_what_they_took() -> None:
    inclusive = hot_spots(STACKS)
    assert "100.0 %  loop (a.py:1)" in inclusive
    assert " 90.0 %  run (a.py:2)" in inclusive


def test_a_recursive_function_is_counted_once_for_each_sample() -> None:
    assert "100.0 %  walk (a.py:1)" in hot_spots(["walk (a.py:1);walk (a.py:1);walk (a.py:1) 4"])


def test_no_samples_at_all_is_said() -> None:
    assert hot_spots([]) == ["no samples"]


def test_only_processes_that_did_something_are_listed_and_the_dearest_comes_first() -> None:
    before = {(1, "raylet"): 1.0, (2, "idle"): 5.0}
    after = {(1, "raylet"): 1.5, (2, "idle"): 5.0, (3, "started meanwhile"): 2.0}
    assert cost_of_processes(before, after) == ["  2.00 CPU s  started meanwhile", "  0.50 CPU s  raylet"]
