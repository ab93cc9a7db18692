"""Why no host takes a sandbox: what is missing or short, and by how much. Pure; asked when placement found nothing.

The conditions of `filters` one after another, each on the hosts that passed the ones before: the first that nobody
passes is the reason. What no host could ever give comes first and means Never; what is only taken now means Wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cluster.placement.answers import Never, Wait
from cluster.placement.filters import choose_gpus, is_kind, of_kind
from cluster.placement.needs import ANY_MIG, GpuNeed, SandboxNeed
from cluster.placement.views import CPU_GRAIN, HostView, Node

GIB = 1 << 30
Seat = tuple[Node, HostView]
Check = tuple[Callable[[Node, HostView], bool], Callable[[Sequence[Seat]], str]]
"""Who passes; and what to say of those that came this far when none does."""


def explain(need: SandboxNeed, nodes: Iterable[Node]) -> Wait | Never:
    """Why none of these nodes takes it now. A host that has not spoken yet may turn out to be the one that can."""
    nodes = list(nodes)
    answer = _explain(need, nodes)
    opening = [node.name for node in nodes if node.opens]
    if isinstance(answer, Never) and opening:
        return Wait(f"the host of node {min(opening)} is not open yet, and otherwise {answer.reason}")
    return answer


def _explain(need: SandboxNeed, nodes: Iterable[Node]) -> Wait | Never:
    seats = every = [(node, node.host) for node in nodes if node.host is not None]
    if not seats:
        return Never("no node has a host for sandboxes")
    for answer, checks in ((Never, _lasting(need, len(every))), (Wait, _passing(need))):
        for passes, say in checks:
            left = [seat for seat in seats if passes(*seat)]
            if not left:
                return answer(say(seats))
            seats = left
    return Wait("a host has room again by now")


def _lasting(need: SandboxNeed, total: int) -> Iterator[Check]:
    """What no host has, or is too small for."""
    yield lambda _, host: need.image in host.images, lambda _: f"no host has image {need.image!r}"
    yield (
        lambda _, host: need.gpu is not None or not host.gpus_only,
        lambda _: "every host with its image is kept for jobs with GPUs",
    )
    for key, value in need.labels.items():
        yield _labelled(need, key, value, total)
    for database in need.databases:
        yield _beside(database, total)
    yield (
        lambda _, host: need.cpus <= host.cpus + CPU_GRAIN,
        lambda seats: (
            f"needs {need.cpus:g} CPUs, the largest {_suitable(seats, total)} has "
            f"{max(host.cpus for _, host in seats):g}"
        ),
    )
    yield (
        lambda _, host: need.memory_bytes <= host.memory_bytes,
        lambda seats: (
            f"needs {_size(need.memory_bytes)} of memory, the largest {_suitable(seats, total)} has "
            f"{_size(max(host.memory_bytes for _, host in seats))}"
        ),
    )
    if (gpu := need.gpu) is not None:
        yield (
            lambda _, host: sum(is_kind(device, gpu) for device in host.gpus) >= gpu.count,
            lambda seats: _no_gpu(gpu, seats, total),
        )


def _passing(need: SandboxNeed) -> Iterator[Check]:
    """What may be different in a moment."""
    yield lambda node, _: not node.draining, lambda _: "every node that could take it is draining"
    yield (
        lambda node, _: not node.avoided,
        _who_rests,
    )
    yield (
        lambda _, host: not host.unwell,
        _who_is_unwell,
    )
    yield (
        lambda _, host: host.sandboxes < host.most_sandboxes,
        lambda seats: f"all {sum(host.most_sandboxes for _, host in seats)} places for sandboxes are taken",
    )
    yield (
        lambda _, host: need.cpus <= host.free_cpus,
        lambda seats: (
            f"needs {need.cpus:g} CPUs, the host with most room has "
            f"{max(0.0, max(host.cpus - host.reserved_cpus for _, host in seats)):g} free"
        ),
    )
    yield (
        lambda _, host: need.memory_bytes <= host.free_bytes,
        lambda seats: (
            f"needs {_size(need.memory_bytes)} of memory, the host with most room has "
            f"{_size(max(0, *(host.free_bytes for _, host in seats)))} free"
        ),
    )
    if (gpu := need.gpu) is not None:
        yield lambda _, host: bool(choose_gpus(gpu, need.tenant, host)), lambda seats: _no_free_gpu(gpu, seats)


def _who_rests(seats: Sequence[Seat]) -> str:
    return min(f"node {node.name} {node.avoided}" for node, _ in seats)


def _who_is_unwell(seats: Sequence[Seat]) -> str:
    return min(f"host {node.name}: {host.unwell}" for node, host in seats)


def _labelled(need: SandboxNeed, key: str, value: str, total: int) -> Check:
    return (
        lambda node, _: node.labels.get(key) == value,
        lambda seats: _no_label(need, seats, f"{key}={value}", total),
    )


def _beside(database: str, total: int) -> Check:
    return (
        lambda node, _: database in node.pools,
        lambda seats: f"no {_suitable(seats, total)} has a pool for database {database!r}",
    )


def _no_label(need: SandboxNeed, seats: Sequence[Seat], label: str, total: int) -> str:
    if len(need.labels) > 1 and len(seats) < total:
        wanted = " and ".join(f"{key}={value}" for key, value in need.labels.items())
        return f"no host with its image has the labels {wanted} together: none of those left has {label}"
    return f"no {_suitable(seats, total)} has the label {label}"


def _no_gpu(need: GpuNeed, seats: Sequence[Seat], total: int) -> str:
    kind = _kind(need)
    same = [[gpu for gpu in host.gpus if of_kind(need, gpu.model, gpu.mig)] for _, host in seats]
    largest = max((gpu.memory_bytes for devices in same for gpu in devices), default=None)
    node = "node" if len(seats) == total else f"{_suitable(seats, total)}"
    if largest is None:
        return f"no {node} has a {kind}"
    if largest < need.memory_bytes:
        return f"no {node} has a {kind} with {_size(need.memory_bytes)}, the largest has {_size(largest)}"
    most = max(sum(is_kind(gpu, need) for gpu in devices) for devices in same)
    return f"needs {need.count} {kind}s{_with_memory(need)} on one node, no {node} has more than {most}"


def _no_free_gpu(need: GpuNeed, seats: Sequence[Seat]) -> str:
    devices = [gpu for _, host in seats for gpu in host.gpus if is_kind(gpu, need)]
    kind, sick = _kind(need), sum(not gpu.healthy for gpu in devices)
    unhealthy = f"; {sick} of {len(devices)} not healthy" if sick else ""
    if need.memory_bytes == 0:
        return f"needs {need.count} whole {kind}{'s' * (need.count > 1)}, fewer are free on any node{unhealthy}"
    most = max((gpu.free_bytes for gpu in devices if gpu.healthy), default=0)
    on = f"{need.count} {kind}s" if need.count > 1 else f"a {kind}"
    return (
        f"needs {on} with {_size(need.memory_bytes)} free for this tenant alone, the most free on one is "
        f"{_size(max(0, most))}{unhealthy}"
    )


def _kind(need: GpuNeed) -> str:
    device = {"": "GPU", ANY_MIG: "GPU or MIG instance"}.get(need.mig, f"MIG instance {need.mig}")
    return f"{device} of model {need.model!r}" if need.model else device


def _with_memory(need: GpuNeed) -> str:
    return f" with {_size(need.memory_bytes)}" if need.memory_bytes else ""


def _suitable(seats: Sequence[Seat], total: int) -> str:
    return "host" if len(seats) == total else f"host of the {len(seats)} that suit it otherwise"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.3g} GiB"
