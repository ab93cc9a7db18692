"""A node that keeps failing is left alone for a while, longer each time. Pure: a function of when it failed.

Only what the node is to blame for counts: a host or pool that died, did not answer or could not start a sandbox; never
a job's own failure. Called by the bench when it tells placement about its nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

TRIP_COUNT = 3
WINDOW_S = 60.0
FIRST_REST_S = 15.0
LONGEST_REST_S = 600.0
LONE_REST_S = 5.0
REMEMBERED = 16
"""Failures that are enough to keep of one node: more of them cannot make the rest any longer."""


def rest_until(failures: Sequence[float]) -> float:
    """The moment until which a node that failed at these moments (ascending) is left alone; 0: it is not.

    Three failures within a minute trip it for 15 s; each failure after that, before the node was in order for ten
    minutes, doubles the rest.
    """
    trips, until, start = 0, 0.0, 0
    for index, moment in enumerate(failures):
        if index and moment - failures[index - 1] > LONGEST_REST_S:
            trips, until, start = 0, 0.0, index  # long in order since: it starts anew
        if trips or (index - start >= TRIP_COUNT - 1 and moment - failures[index - TRIP_COUNT + 1] <= WINDOW_S):
            trips += 1
            until = moment + min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** (trips - 1))
    return until


def why_avoided(failures: Sequence[float], now: float, *, others: bool = True) -> str:
    """What `Node.avoided` says of a node that failed at these moments; empty when it may be used.

    `others`: some node is in order. Where none is, a rest is a short one: it would keep work from the only nodes that
    could do it, after what ailed them is over.
    """
    until = rest_until(failures)
    left_s = (until if others or not until else min(until, failures[-1] + LONE_REST_S)) - now
    if left_s <= 0:
        return ""
    return f"failed {len(failures)} times lately and is left alone for {left_s:.0f} s"
