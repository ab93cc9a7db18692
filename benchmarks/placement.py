"""Claim: one placement decision at 1,000 hosts of 8 GPUs takes at most 1 ms, beside a scan of all hosts.

The peer is the obvious way: ask every host and device whether it could take the job, score those that can, take the
best. It follows the same rules, so the answers are compared before the times. Decisions are made on a cluster that is
filled and emptied as it goes; each of ours includes booking the claim, and the CPU time of this thread is what counts.
"""

from __future__ import annotations

import time
from random import Random

from benchmarks.fleets import gpu_node, need
from benchmarks.options import Options
from benchmarks.peers.peer import PeerFailed
from benchmarks.report import Budget, Report
from benchmarks.timings import percentile
from cluster.placement import Claim, Fleet, HostView, Node, Placed, SandboxNeed, claim_of, give_back, hold
from cluster.placement.filters import choose_gpus, fits, fullness

NAME = "placement"
TITLE = "one placement decision"
SIZES = (100, 1_000, 10_000)
JUDGED = 1_000
MOST_MS = 1.0
DECISIONS = 20_000
SCANNED = 60
"""Decisions that the peer makes too: one of its takes as long as hundreds of ours."""
COLUMNS = ("hosts x 8 GPUs", "mean µs", "p50 µs", "p99 µs", "booking µs", "waits µs", "scan of all µs", "scan / ours")


def run(options: Options) -> Report:
    """Each size: fill the cluster until jobs wait, decide, let go, and so on; some decisions by both."""
    rows, judged = [], 0.0
    for size in SIZES:
        options.say(f"{NAME}: {size:,} hosts")
        own, booking, waits, scan = _measure(size, DECISIONS // 10 if options.quick else DECISIONS)
        mean = sum(own) / len(own)
        figures = (mean, percentile(own, 0.5), percentile(own, 0.99), sum(booking) / len(booking))
        waited = sum(waits) / len(waits) if waits else None
        rows.append((f"{size:,}", *figures, waited, sum(scan) / len(scan), sum(scan) / len(scan) / mean))
        if size == JUDGED:
            judged = percentile(own, 0.99) / 1e3
    budget = Budget(f"99 of 100 decisions at {JUDGED:,} hosts of 8 GPUs", judged, "at most", MOST_MS, "ms")
    notes = (
        "Mixed demand: 88 % plain sandboxes, 10 % shares of a GPU, 2 % one to four whole GPUs; 40 tenants.",
        "waits: decisions that find nothing and say why. booking: the claim, and the host's new place in line.",
        "CPU time of the deciding thread; the same answers as the scan, checked.",
    )
    return Report(NAME, TITLE, COLUMNS, tuple(rows), (budget,), notes)


def _measure(size: int, decisions: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """Microseconds: own decisions, booking, decisions that wait, the peer's decisions."""
    random = Random(size)
    fleet = Fleet(gpu_node(f"n{number:05}") for number in range(size))
    _fill(fleet, random, size)
    held: list[Claim] = []
    own: list[float] = []
    booking: list[float] = []
    waits: list[float] = []
    scan: list[float] = []
    for number in range(decisions):
        wanted = need(random)
        begun = time.thread_time_ns()
        answer = fleet.place(wanted)
        took = (time.thread_time_ns() - begun) / 1e3
        if number % (decisions // SCANNED) == 0:
            begun = time.thread_time_ns()
            other = scan_all(wanted, fleet)
            scan.append((time.thread_time_ns() - begun) / 1e3)
            if (answer if isinstance(answer, Placed) else None) != other:
                raise PeerFailed(f"{answer} against {other} by the scan, for {wanted}")
        if not isinstance(answer, Placed):
            waits.append(took)
            for _ in range(20):
                _let_go(fleet, held, random)
            continue
        own.append(took)
        node = fleet.nodes[answer.node]
        begun = time.thread_time_ns()
        claim = claim_of(wanted, answer, node)
        fleet.replace(hold(node, claim, warm_image=wanted.image))
        booking.append((time.thread_time_ns() - begun) / 1e3)
        held.append(claim)
        if len(held) > decisions // 4:
            _let_go(fleet, held, random)
    return own, booking, waits, scan


def _fill(fleet: Fleet, random: Random, size: int) -> None:
    """Half of every host, so that no two are alike."""
    for name in list(fleet.nodes):
        node = fleet.nodes[name]
        claim = Claim(name, random.randint(0, 40), random.randint(0, 600) << 30, tenant="t0")
        fleet.replace(hold(node, claim))
    for _ in range(size):
        wanted = need(random)
        answer = fleet.place(wanted)
        if wanted.gpu is not None and isinstance(answer, Placed):
            node = fleet.nodes[answer.node]
            fleet.replace(hold(node, claim_of(wanted, answer, node)))


def _let_go(fleet: Fleet, held: list[Claim], random: Random) -> None:
    if held:
        claim = held.pop(random.randrange(len(held)))
        fleet.replace(give_back(fleet.nodes[claim.node], claim))


def scan_all(wanted: SandboxNeed, fleet: Fleet) -> Placed | None:
    """The peer: every host is asked, every one that could is scored."""
    best = None
    for node in fleet.nodes.values():
        host = node.host
        if host is None or not fits(wanted, node):
            continue
        chosen = choose_gpus(wanted.gpu, wanted.tenant, host) if wanted.gpu else ()
        if wanted.gpu and not chosen:
            continue
        score = (*fullness(chosen[0])[:2], node.name) if chosen else _score(wanted, node, host)
        if best is None or score < best[0]:
            best = score, Placed(node.name, tuple(gpu.uuid for gpu in chosen))
    return best[1] if best else None


def _score(wanted: SandboxNeed, node: Node, host: HostView) -> tuple[bool, int, float, str]:
    warmth = 0 if host.warm.get(wanted.image) else 1 if wanted.image in host.snapshots else 2
    return bool(host.gpus), warmth, host.load, node.name
