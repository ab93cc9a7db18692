"""The nodes in the order in which they are tried, kept up to date as one after another changes. Holds views, no claims.

The best host is the first that fits in this order, so a decision ends where it finds one, mostly at its first look:

* a sandbox without a GPU: hosts without GPUs before hosts with; there, hosts with a warm sandbox of the image, then
  with a snapshot, then any; among equals the least loaded, then by name;
* a sandbox with GPUs: the device that is in use and has the least room left that suffices, then the smallest unused
  one, so that large pieces stay whole; then by node and uuid.

`replace` costs a few insertions into sorted lists, whatever the number of nodes. Used by `decision` for a single
question and kept by those who ask many.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from cluster.placement.answers import Answer, Placed
from cluster.placement.filters import choose_gpus, fits, of_kind
from cluster.placement.needs import GpuNeed, SandboxNeed
from cluster.placement.reasons import explain
from cluster.placement.views import GpuView, HostView, Node

HostKey = tuple[float, str]
"""Load, name."""
GpuKey = tuple[int, str, str]
"""Free bytes, node, uuid."""
DeviceKind = tuple[str, str]
"""Model, MIG profile."""
Key = TypeVar("Key", HostKey, GpuKey)
HostLines = tuple[list[HostKey], list[HostKey]]
"""Hosts without GPUs, hosts with."""


def _two_lines() -> HostLines:
    return [], []


class Fleet:
    """Nodes by name, and where each stands in line."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: dict[str, Node] = {}
        self._hosts = _two_lines()
        self._labelled: defaultdict[tuple[str, str], HostLines] = defaultdict(_two_lines)
        self._warm: defaultdict[str, HostLines] = defaultdict(_two_lines)
        self._snapshots: defaultdict[str, HostLines] = defaultdict(_two_lines)
        self._unused: defaultdict[DeviceKind, list[GpuKey]] = defaultdict(list)
        self._shared: defaultdict[tuple[DeviceKind, str], list[GpuKey]] = defaultdict(list)
        """Devices in use, by kind and tenant."""
        for node in nodes:
            self.replace(node)

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self._nodes

    def replace(self, node: Node) -> None:
        """This is the node of that name from now on."""
        before = self._nodes.get(node.name)
        self._nodes[node.name] = node
        old, new = before.host if before is not None else None, node.host
        if before is not None and old is new and before.labels == node.labels:
            return  # only its pools are different, or it drains: that is looked at, no place in line
        if before is not None and old is not None:
            self._drop(self._lines(before, old))
        if new is not None:
            self._add(self._lines(node, new))
        gone, come = (old.gpus if old else ()), (new.gpus if new else ())
        if len(gone) == len(come):  # mostly one of eight has changed
            pairs = [pair for pair in zip(gone, come, strict=True) if pair[0] is not pair[1]]
            gone, come = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        self._drop(self._device_line(node.name, gpu) for gpu in gone)
        self._add(self._device_line(node.name, gpu) for gpu in come)

    def remove(self, name: str) -> None:
        """The node is gone; nothing happens where it never was."""
        if name in self._nodes:
            self.replace(Node(name))
            del self._nodes[name]

    def place(self, need: SandboxNeed) -> Answer:
        """The node for this sandbox, and its GPUs; or why there is none."""
        return self.find(need) or explain(need, self._nodes.values())

    def find(self, need: SandboxNeed) -> Placed | None:
        """As `place`, without the reasons, which cost more than the look."""
        return self._place_plain(need) if need.gpu is None else self._place_on_gpu(need, need.gpu)

    # ---- who stands where ----

    def _lines(self, node: Node, host: HostView) -> Iterator[tuple[list[HostKey], HostKey]]:
        """Every line in which the host stands, and its place in it."""
        key, has_gpus = (host.load, node.name), bool(host.gpus)
        yield self._hosts[has_gpus], key
        for label in node.labels.items():
            yield self._labelled[label][has_gpus], key
        for image, count in host.warm.items():
            if count > 0:
                yield self._warm[image][has_gpus], key
        for image in host.snapshots:
            yield self._snapshots[image][has_gpus], key

    def _device_line(self, name: str, gpu: GpuView) -> tuple[list[GpuKey], GpuKey]:
        kind = gpu.model, gpu.mig
        line = self._shared[kind, gpu.tenant] if gpu.reserved_bytes else self._unused[kind]
        return line, (gpu.free_bytes, name, gpu.uuid)

    def _add(self, places: Iterable[tuple[list[Key], Key]]) -> None:
        for line, key in places:
            insort(line, key)

    def _drop(self, places: Iterable[tuple[list[Key], Key]]) -> None:
        for line, key in places:
            del line[bisect_left(line, key)]

    # ---- who is first ----

    def _place_plain(self, need: SandboxNeed) -> Placed | None:
        nodes = self._nodes
        wanted = [self._labelled.get(label, ((), ())) for label in need.labels.items()]
        for has_gpus in (False, True):
            # Whoever has all of the labels stands in each of their lines: the shortest will do.
            every = min([lines[has_gpus] for lines in (*wanted, self._hosts)], key=len)
            for lines in (self._warm.get(need.image), self._snapshots.get(need.image)):
                for _, name in lines[has_gpus] if lines and every else ():
                    if fits(need, nodes[name]):
                        return Placed(name)
            for _, name in every:
                if fits(need, nodes[name]):
                    return Placed(name)
        return None

    def _place_on_gpu(self, need: SandboxNeed, gpu: GpuNeed) -> Placed | None:
        tried: set[str] = set()
        kinds = [kind for kind in self._kinds() if of_kind(gpu, *kind)]
        if gpu.memory_bytes:
            lines = [self._shared[kind, need.tenant] for kind in kinds if (kind, need.tenant) in self._shared]
            if placed := self._first_on_gpu(need, gpu, lines, tried):
                return placed
        return self._first_on_gpu(need, gpu, [self._unused[kind] for kind in kinds], tried)

    def _kinds(self) -> set[DeviceKind]:
        return {*self._unused, *(kind for kind, _ in self._shared)}

    def _first_on_gpu(
        self, need: SandboxNeed, gpu: GpuNeed, lines: Iterable[list[GpuKey]], tried: set[str]
    ) -> Placed | None:
        """The host of the device that comes first in any of these lines and has all that is needed."""
        best: tuple[GpuKey, Placed] | None = None
        for line in lines:
            for position in range(bisect_left(line, (gpu.memory_bytes, "", "")), len(line)):
                key = line[position]
                if best is not None and best[0] < key:
                    break
                name = key[1]
                if name in tried:
                    continue
                node = self._nodes[name]
                chosen = choose_gpus(gpu, need.tenant, node.host) if node.host and fits(need, node) else ()
                if not chosen:
                    tried.add(name)
                elif chosen[0].uuid == key[2]:  # else this device is ill or too full: the host's turn is another's
                    best = key, Placed(name, tuple(device.uuid for device in chosen))
                    break
        return best[1] if best else None
