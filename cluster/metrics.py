"""Every metric of Sandpool: its name, its meaning, its labels. And where observations go: a recorder.

Pure but for the recorder in memory, which the embedded mode and tests read. `cluster.metrics_ray` hands observations to
Ray, whose endpoint Prometheus asks. A style of its own keeps the number of series bounded: no label ever holds a job's
id, and a label that follows what people name (tenants, images, rules) keeps the first hundred values and calls the rest
`other`. `configs/grafana` and `configs/prometheus` may use these names only, which a test checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
MOST_VALUES = 100
"""Values of one label that are told apart."""
OTHER = "other"


@dataclass(frozen=True, slots=True, eq=False)  # looked up by identity, a dozen times for each job
class Metric:
    """One family of series. Counters end in `_total`; every other name ends in its unit or says what it counts."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


JOBS = Metric(
    "sandpool_jobs_total", "counter", "Jobs that ended, by how. One id counts once.", ("tenant", "kind", "ending")
)
STAGE = Metric(
    "sandpool_stage_seconds",
    "histogram",
    "Seconds that jobs spent in a stage: queue (from submission to being taken), find (whether it has ended already), "
    "admit (the policy's verdict), place (in line for a slot), run, record, settle.",
    ("stage", "kind"),
)
ATTEMPTS = Metric("sandpool_attempts_total", "counter", "Attempts that came back from a worker.", ("kind", "ending"))
DENIALS = Metric("sandpool_denials_total", "counter", "Jobs denied, by the rule that denied them.", ("rule",))
RETRIES = Metric("sandpool_retries_total", "counter", "Jobs sent back to the broker, by why.", ("code",))
PARKED = Metric("sandpool_parked_total", "counter", "Jobs moved into their tenant's own queue.", ("tenant",))
DEAD = Metric("sandpool_dead_letters_total", "counter", "Messages dead-lettered, by why.", ("reason",))
HAND_OUT = Metric("sandpool_sandbox_hand_out_seconds", "histogram", "Seconds until a job had its sandbox.", ("image",))
ROWS = Metric("sandpool_result_rows_total", "counter", "Rows of recorded results.", ("tenant",))
BYTES = Metric("sandpool_result_bytes_total", "counter", "Bytes written to volumes as results.", ("tenant",))
QUEUE = Metric("sandpool_queue_messages", "gauge", "Messages that wait in a queue of the broker.", ("queue",))
UNDER_WAY = Metric("sandpool_jobs_under_way", "gauge", "Jobs that this scheduler holds.", ())
IN_LINE = Metric("sandpool_jobs_in_line", "gauge", "Jobs in line for a slot or a sandbox.", ("line",))
POOL = Metric(
    "sandpool_pool_connections",
    "gauge",
    "Connections of a pool: idle, lent, and its budget.",
    ("node", "database", "state"),
)
POOL_WAITING = Metric("sandpool_pool_waiting", "gauge", "Statements that wait for a connection.", ("node", "database"))
POOL_RUNNING = Metric("sandpool_pool_running", "gauge", "Statements under way.", ("node", "database"))
SANDBOXES = Metric("sandpool_sandboxes", "gauge", "Sandboxes of a host: used, warm, paused.", ("node", "state"))
STARTS = Metric(
    "sandpool_sandbox_starts_total",
    "counter",
    "Sandboxes handed out: warm ones, and ones made for it.",
    ("node", "how"),
)
HOST_MEMORY = Metric("sandpool_host_memory_bytes", "gauge", "Memory for sandboxes: all, promised.", ("node", "state"))
HOST_CPUS = Metric("sandpool_host_cpus", "gauge", "CPUs for sandboxes: all, promised.", ("node", "state"))
GPU_MEMORY = Metric(
    "sandpool_gpu_memory_bytes", "gauge", "Memory of a GPU: all, promised, free.", ("node", "gpu", "state")
)
GPU_HEALTHY = Metric("sandpool_gpu_healthy", "gauge", "1: jobs are placed on it. 0: it is not well.", ("node", "gpu"))
UP = Metric("sandpool_up", "gauge", "1 while a scheduler takes jobs.", ())

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class Recorder(Protocol):
    """Takes observations; `labels` in the order of the metric's own. Never raises, never waits."""

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count a counter up."""

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """What a gauge shows now."""

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One value of a histogram."""


class LabelCap:
    """Bounds the values of every label: the first MOST_VALUES of each are kept, all others are one."""

    def __init__(self) -> None:
        self._known: dict[Metric, dict[tuple[str, ...], tuple[str, ...]]] = {}
        self._values: dict[tuple[str, str], set[str]] = {}

    def capped(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels as they are recorded."""
        known = self._known.setdefault(metric, {})
        found = known.get(labels)
        if found is None:
            found = tuple(self._value(metric, name, value) for name, value in zip(metric.labels, labels, strict=True))
            if len(known) < MOST_VALUES**2:
                known[labels] = found
        return found

    def _value(self, metric: Metric, name: str, value: str) -> str:
        values = self._values.setdefault((metric.name, name), set())
        if value not in values and len(values) < MOST_VALUES:
            values.add(value)
        return value if value in values else OTHER


class MemoryRecorder:
    """Keeps sums, last values, and of histograms count and sum: for the embedded mode and for tests."""

    def __init__(self) -> None:
        self._cap = LabelCap()
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        self.counts: dict[tuple[str, tuple[str, ...]], int] = {}

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        key = (metric.name, self._cap.capped(metric, labels))
        self.values[key] = self.values.get(key, 0.0) + amount

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        self.values[metric.name, self._cap.capped(metric, labels)] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        key = (metric.name, self._cap.capped(metric, labels))
        self.values[key] = self.values.get(key, 0.0) + value
        self.counts[key] = self.counts.get(key, 0) + 1

    def of(self, metric: Metric) -> Mapping[tuple[str, ...], float]:
        """Every series of one metric."""
        return {labels: value for (name, labels), value in self.values.items() if name == metric.name}


class NoRecorder:
    """Where metrics are switched off."""

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        return

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        return

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        return


def exported_names(metrics: Iterable[Metric] = ALL) -> frozenset[str]:
    """The names that Prometheus sees: Ray puts `ray_` in front, and a histogram has three series."""
    return frozenset(
        f"ray_{metric.name}{suffix}"
        for metric in metrics
        for suffix in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
    )
