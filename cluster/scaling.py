"""How large should the cluster be: what is asked of Ray's autoscaler, and which idle nodes it may take. Pure.

Ray sees nothing of what runs in our hosts, whose actors hold no CPUs, so it is told all that wants room: what runs and
what waits. Only sandboxes count: statements wait for connections of a database's budget, of which another node brings
none. Asked by `cluster.dispatch` every few seconds; the schedulers' first one asks for all.

The other way round, Ray takes no node on which actors live. So a node that has been idle for long gives them up, which
lets Ray see it idle and end it after its own `idle_timeout`; work that needs it before then has it back at once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.placement import SandboxNeed

MOST_BUNDLES = 2_000
"""Asked for at once, the largest first: Ray packs them one by one."""
HOLD_S = 90.0
"""A need that is gone is asked for so long still: longer than a job is in the delay queues between two looks."""


@dataclass(frozen=True, slots=True)
class Growth:
    """That the cluster grows and shrinks, and how."""

    rest_after_s: float
    """A node idle for so long gives its workers up."""
    schedulers: int = 1
    speaks: bool = True
    """Whether this scheduler is the one that asks for all: Ray knows one ask, the latest."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Room for one sandbox, as Ray counts it."""

    cpus: float
    memory_bytes: int
    gpus: int = 0
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def bundle(self) -> dict[str, float]:
        asked = {"CPU": self.cpus, "memory": float(self.memory_bytes), "GPU": float(self.gpus)}
        return {name: size for name, size in asked.items() if size > 0}

    @property
    def size(self) -> tuple[int, float, int]:
        return self.gpus, self.cpus, self.memory_bytes


def piece_of(need: SandboxNeed) -> Piece:
    """What this sandbox takes of a node. A GPU's memory and model are no resources of Ray's: it is asked for a GPU."""
    gpus = need.gpu.count if need.gpu is not None else 0
    return Piece(need.cpus, need.memory_bytes, gpus, tuple(sorted(need.labels.items())))


@dataclass(slots=True)
class Demand:
    """The most of each piece that was wanted at once within HOLD_S: an ask that flickers would start machines and end
    them again."""

    schedulers: int = 1
    """Each sees its own part of the jobs; one speaks for all."""
    _seen: deque[tuple[float, Counter[Piece]]] = field(default_factory=deque)

    def see(self, needs: Iterable[SandboxNeed], now_s: float) -> None:
        """These want room now, or have it."""
        self._seen.append((now_s, Counter(map(piece_of, needs))))
        while self._seen and self._seen[0][0] < now_s - HOLD_S:
            self._seen.popleft()

    def pieces(self) -> list[Piece]:
        """What to ask for, the largest first, at most MOST_BUNDLES."""
        most: Counter[Piece] = Counter()
        for _, wanted in self._seen:
            most |= wanted
        ordered = sorted(most, key=lambda piece: (piece.size, piece.labels), reverse=True)
        asked: list[Piece] = []
        for piece in ordered:
            asked += [piece] * min(most[piece] * self.schedulers, MOST_BUNDLES - len(asked))
        return asked


def may_rest(idle_s: Mapping[str, float], after_s: float, kept: Sequence[str]) -> list[str]:
    """Which nodes give their workers up: those idle for `after_s` or longer, but none of those in `kept`."""
    return sorted(name for name, seconds in idle_s.items() if seconds >= after_s and name not in kept)
