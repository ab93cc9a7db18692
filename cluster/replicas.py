"""Which of several schedulers this is, and what part of a limit is its own. Pure.

Several schedulers take from the same queues. The broker divides the work, workers arbitrate (a host refuses what does
not fit, a pool lends no more connections than it has), records make every job end once. What each counts for itself,
such as a tenant's jobs in flight, is divided here, so that together they keep to the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.fairness import Share

ACTOR_NAME = "scheduler"


@dataclass(frozen=True, slots=True)
class Replica:
    """Scheduler `number` (from 1) of `count`."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """Of its actor. The first one's is that of a scheduler that is alone."""
        return ACTOR_NAME if self.number == 1 else f"{ACTOR_NAME}-{self.number}"

    @property
    def mailbox(self) -> str:
        """By which workers tell it from the others: the one that is alone has no name, whatever their number was."""
        return "" if self.number == 1 else self.name

    @property
    def others(self) -> list[str]:
        """Names of the other actors."""
        return [each.name for each in all_of(self.count) if each != self]

    def part_of(self, limit: int) -> int:
        """This one's part of a limit that all of them keep to together."""
        return limit // self.count + (self.number <= limit % self.count)

    def share_of(self, share: Share) -> Share:
        """This one's part of what a tenant has a right to."""
        most, rate = share.max_in_flight, share.rate_per_s
        return Share(
            share.weight,
            None if most is None else self.part_of(most),
            None if rate is None else rate / self.count,
        )


ALONE = Replica()


def all_of(count: int) -> list[Replica]:
    """Every one of so many."""
    return [Replica(number, count) for number in range(1, count + 1)]
