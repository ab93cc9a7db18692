"""Claim: 100,000 sandboxes on 2,000 hosts, with hosts that join and are lost, at a cost per decision that stays flat.

No sandbox runs: the product's own pure functions (`cluster.placement`) decide on a simulated clock. Sandboxes arrive at
random, hold their claim for as long as they "run", and give it back; what finds no room waits in one of two lines, for
plain sandboxes and for those with GPUs, by arrival. A lost host takes its sandboxes along, which then wait again.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from benchmarks.fleets import cpu_node, gpu_node, need
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.timings import percentile
from cluster.placement import Claim, Fleet, Node, Placed, SandboxNeed, claim_of, give_back, hold

NAME = "simulation"
TITLE = "100,000 sandboxes on 2,000 hosts, simulated"
SCALES = ((200, 10_000), (2_000, 100_000))
"""Hosts, sandboxes; one host of five has GPUs."""
MEAN_RUN_S = 300.0
LOAD = 0.9
"""Of what the cluster's GPUs, its scarcest good, could carry on average."""
LOOKAHEAD = 8
"""Of each line, how many are tried when something came free: one that is too large must not hold up all others."""
COLUMNS = (
    *("hosts", "sandboxes", "hosts lost", "restarted", "CPU used", "GPU memory used"),
    *("wait p50 s", "wait p99 s", "waited at all", "mean µs per decision", "p99 µs"),
)


@dataclass(slots=True)
class Job:
    need: SandboxNeed
    arrived_s: float
    waited_s: float = 0.0
    claim: Claim | None = None
    generation: int = 0
    """Of its placement: the end of one that was lost with its host is nobody's."""


@dataclass(slots=True)
class World:
    random: Random
    fleet: Fleet
    lines: dict[bool, deque[Job]] = field(default_factory=lambda: {False: deque(), True: deque()})
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    ticket: Iterator[int] = field(default_factory=itertools.count)
    running: dict[str, set[int]] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    waits_s: list[float] = field(default_factory=list)
    costs_us: list[float] = field(default_factory=list)
    used: list[tuple[float, float]] = field(default_factory=list)
    lost: int = 0
    restarted: int = 0
    names: Iterator[int] = field(default_factory=itertools.count)

    def at(self, moment_s: float, kind: str, what: object = None) -> None:
        heapq.heappush(self.events, (moment_s, next(self.ticket), kind, what))


def run(options: Options) -> Report:
    """Each scale from the same seed."""
    rows = []
    for hosts, sandboxes in SCALES[:1] if options.quick else SCALES:
        options.say(f"{NAME}: {sandboxes:,} sandboxes on {hosts:,} hosts")
        world = simulate(hosts, sandboxes)
        cpu, gpu = (sum(values) / len(world.used) for values in zip(*world.used, strict=True))
        rows.append(
            (
                *(f"{hosts:,}", f"{sandboxes:,}", world.lost, world.restarted, f"{cpu:.0%}", f"{gpu:.0%}"),
                *(percentile(world.waits_s, 0.5), percentile(world.waits_s, 0.99)),
                f"{sum(wait > 0 for wait in world.waits_s) / len(world.waits_s):.1%}",
                *(sum(world.costs_us) / len(world.costs_us), percentile(world.costs_us, 0.99)),
            )
        )
    notes = (
        "Waits are simulated seconds; the cost of a decision is real CPU time of the product's own functions.",
        f"Runs of {MEAN_RUN_S:.0f} s on average, exponential; arrivals for {LOAD:.0%} of the GPUs' memory.",
        "One host in a hundred is lost during the run, and as many join.",
        "Used: of all CPUs and GPU memory, promised on average once the cluster had filled.",
    )
    return Report(NAME, TITLE, COLUMNS, tuple(rows), (), notes)


def simulate(hosts: int, sandboxes: int, seed: int = 1) -> World:
    """Until every sandbox has ended."""
    world = World(Random(seed), Fleet())
    for _ in range(hosts):
        _join(world)
    rate = _arrivals_per_s(world)
    moment_s = 0.0
    for _ in range(sandboxes):
        moment_s += world.random.expovariate(rate)
        world.at(moment_s, "arrive", Job(need(world.random), moment_s))
    for _ in range(max(1, hosts // 100)):
        world.at(world.random.uniform(0, moment_s), "lose")
        world.at(world.random.uniform(0, moment_s), "join")
    for step in range(1, 21):
        world.at(moment_s * step / 20, "look")
    while world.events:
        now_s, _, kind, what = heapq.heappop(world.events)
        _happen(world, now_s, kind, what)
    return world


def _happen(world: World, now_s: float, kind: str, what: object) -> None:
    if kind == "arrive":
        assert isinstance(what, Job)
        line = world.lines[what.need.gpu is not None]
        if line or not _start(world, what, now_s):
            line.append(what)
    elif kind == "end":
        number, generation = what  # type: ignore[misc]
        job = world.jobs.get(number)
        if job is not None and job.generation == generation:
            _end(world, number, job)
            _serve(world, now_s)
    elif kind == "join":
        _join(world)
        _serve(world, now_s)
    elif kind == "lose":
        _lose(world, now_s)
    elif kind == "look" and now_s > MEAN_RUN_S:
        world.used.append(_use(world))


def _start(world: World, job: Job, now_s: float) -> bool:
    begun = time.thread_time_ns()
    answer = world.fleet.place(job.need)
    world.costs_us.append((time.thread_time_ns() - begun) / 1e3)
    if not isinstance(answer, Placed):
        return False
    node = world.fleet.nodes[answer.node]
    job.claim = claim_of(job.need, answer, node)
    world.fleet.replace(hold(node, job.claim, warm_image=job.need.image))
    number = next(world.ticket)
    job.generation = number
    world.jobs[number] = job
    world.running[answer.node].add(number)
    world.waits_s.append(now_s - job.arrived_s)
    world.at(now_s + world.random.expovariate(1 / MEAN_RUN_S), "end", (number, number))
    return True


def _end(world: World, number: int, job: Job) -> None:
    assert job.claim is not None
    del world.jobs[number]
    world.running[job.claim.node].discard(number)
    world.fleet.replace(give_back(world.fleet.nodes[job.claim.node], job.claim))


def _serve(world: World, now_s: float) -> None:
    """Something came free: the first few of each line try again."""
    for line in world.lines.values():
        for job in list(itertools.islice(line, LOOKAHEAD)):
            if _start(world, job, now_s):
                line.remove(job)


def _join(world: World) -> None:
    number = next(world.names)
    name = f"n{number:05}"
    node: Node = gpu_node(name) if number % 5 == 0 else cpu_node(name)
    world.running[name] = set()
    world.fleet.replace(node)


def _lose(world: World, now_s: float) -> None:
    name = world.random.choice(sorted(world.running))
    world.fleet.remove(name)
    world.lost += 1
    for number in sorted(world.running.pop(name)):
        job = world.jobs.pop(number)
        world.restarted += 1
        job.arrived_s, job.claim = now_s, None
        world.lines[job.need.gpu is not None].appendleft(job)
    _serve(world, now_s)


def _arrivals_per_s(world: World) -> float:
    """So many that the GPUs' memory is used to LOAD on average."""
    random = Random(0)
    drawn = [need(random) for _ in range(5_000)]
    wanted = sum(one.gpu.count * (one.gpu.memory_bytes or 80 << 30) for one in drawn if one.gpu) / len(drawn)
    have = sum(gpu.memory_bytes for node in world.fleet.nodes.values() if node.host for gpu in node.host.gpus)
    return LOAD * have / (wanted * MEAN_RUN_S)


def _use(world: World) -> tuple[float, float]:
    """Shares of all CPUs and of all GPU memory that are promised now."""
    hosts = [node.host for node in world.fleet.nodes.values() if node.host]
    gpus = [gpu for host in hosts for gpu in host.gpus]
    cpus = sum(host.reserved_cpus for host in hosts) / sum(host.cpus for host in hosts)
    return cpus, sum(gpu.reserved_bytes for gpu in gpus) / sum(gpu.memory_bytes for gpu in gpus)
