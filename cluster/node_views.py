"""The nodes as placement sees them, each made anew only when something of it has changed. Kept by `cluster.dispatch`.

A decision looks at many nodes and comes after every job, while between two decisions one node has changed, or none. So
whoever changes something of a node says so, and the next question makes that one view; the order in which placement
tries them is kept too (`cluster.placement.Fleet`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.placement import Fleet, Node


class NodeViews:
    """`view` makes the view of one node; None: there is no such node."""

    def __init__(self, view: Callable[[str], Node | None]) -> None:
        self._view = view
        self._fleet = Fleet()
        self._stale: set[str] = set()

    def changed(self, name: str) -> None:
        """Something of this node is different, or it came or went."""
        self._stale.add(name)

    def all_changed(self, names: Iterable[str]) -> None:
        """So is it of all of these, and of those that were there before."""
        self._stale.update(names, self._fleet.nodes)

    def fleet(self) -> Fleet:
        """The nodes as they are now."""
        stale, self._stale = self._stale, set()
        for name in sorted(stale):
            node = self._view(name)
            if node is None:
                self._fleet.remove(name)
            else:
                self._fleet.replace(node)
        return self._fleet
