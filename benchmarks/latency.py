"""Claim 2: one SQL job at a time, from its submission to its outcome, beside taskiq.

taskiq is measured twice, and the budget judged against both: at its best (a reply queue on the same broker, awaited
without polling, see `benchmarks.peers.taskiq_replies`), and the way that its documentation shows (taskiq-redis,
`wait_result`), where Redis is installed: with the default polling interval of 200 ms and with one of 1 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from benchmarks.jobs import CONNECTIONS, FIGURES, Turn, celery_peer, figures, profile_ours, take_turn, taskiq_peer
from benchmarks.machine import describe_filesystem
from benchmarks.options import Options
from benchmarks.peers.peer import Peer
from benchmarks.peers.redis_server import find_redis, open_redis
from benchmarks.peers.sandpool_peer import SandpoolPeer
from benchmarks.report import Budget, Report
from benchmarks.results import Checksum, require_equal
from benchmarks.services import Services
from benchmarks.timings import median
from benchmarks.workload import calls

NAME = "latency"
TITLE = "one SQL job at a time, submission to outcome"
JOBS = 400
SLOW_JOBS = 40
"""For the peer whose default polling interval of 200 ms decides alone."""
QUICK_JOBS = 60
ROUNDS = 3
MOST_OF_TASKIQ = 1.2
DEFAULT_POLL_S = 0.2
SHORT_POLL_S = 0.001

Contestant = tuple[Callable[[], Peer], int]


def run(services: Services, options: Options) -> Report:
    """Every peer, ROUNDS times, then (once) taskiq with Redis."""
    count = QUICK_JOBS if options.quick else JOBS
    contestants: list[Contestant] = [
        (lambda: SandpoolPeer(services, CONNECTIONS), count),
        (lambda: taskiq_peer(services), count),
        (lambda: celery_peer(services), count),
    ]
    turns: dict[str, list[Turn]] = {}
    for number in range(1 if options.quick else ROUNDS):
        _round(contestants, services, turns, options, f"round {number + 1}")
    notes = [f"{count} jobs a round, one at a time, median of {len(turns[SandpoolPeer.name])} interleaved rounds."]
    notes.append(f"Results lie on {describe_filesystem(services.folder)}.")
    notes.append(_with_redis(services, turns, options, count))
    rows = tuple((name, *figures(own)) for name, own in turns.items())
    profile = profile_ours(services, calls(count), in_flight=1) if options.profile else ()
    return Report(NAME, TITLE, ("", *FIGURES), rows, _budgets(turns), tuple(notes), profile)


def _budgets(turns: dict[str, list[Turn]]) -> tuple[Budget, ...]:
    """Against taskiq at its best, and against the documented way with the shorter polling where that was measured."""
    pairs = zip(turns[SandpoolPeer.name], turns["taskiq"], strict=True)
    slower = median([ours.latency_ms(0.5) / theirs.latency_ms(0.5) for ours, theirs in pairs])
    best = Budget("p50 of one job against taskiq at its best (reply queue)", slower, "at most", MOST_OF_TASKIQ, "x")
    documented = next((own for name, own in turns.items() if name.endswith(f"every {SHORT_POLL_S * 1000:g} ms")), None)
    if documented is None:
        return (best,)
    ours_ms = median([turn.latency_ms(0.5) for turn in turns[SandpoolPeer.name]])
    ratio = ours_ms / median([turn.latency_ms(0.5) for turn in documented])
    promise = "p50 of one job against taskiq as documented (Redis, polled every 1 ms)"
    return best, Budget(promise, ratio, "at most", MOST_OF_TASKIQ, "x")


def _round(
    contestants: list[Contestant], services: Services, turns: dict[str, list[Turn]], options: Options, title: str
) -> None:
    checksums: dict[int, dict[str, Checksum]] = {}
    for make, count in contestants:
        peer = make()
        options.say(f"{NAME}: {title}, {peer.name}")
        turn, checksum = take_turn(peer, services, count, in_flight=1)
        turns.setdefault(peer.name, []).append(turn)
        checksums.setdefault(count, {})[peer.name] = checksum
    for found in checksums.values():
        require_equal(found)


def _with_redis(services: Services, turns: dict[str, list[Turn]], options: Options, count: int) -> str:
    """Measure taskiq as documented; says how, or why not."""
    program = find_redis()
    if program is None or find_spec("taskiq_redis") is None:
        return "taskiq with Redis was not measured: it needs the program redis-server and the package taskiq-redis."
    with open_redis(program, services.folder / "redis") as url:
        contestants: list[Contestant] = [
            (lambda: taskiq_peer(services, redis_url=url, poll_s=SHORT_POLL_S), count),
            (lambda: taskiq_peer(services, redis_url=url, poll_s=DEFAULT_POLL_S), min(count, SLOW_JOBS)),
        ]
        _round(contestants, services, turns, options, "taskiq with Redis")
    return "taskiq with Redis: taskiq-redis and `wait_result`, as taskiq documents; 200 ms is its default interval."
