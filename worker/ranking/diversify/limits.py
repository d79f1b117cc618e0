"""Limits in the greedy: how many items of a group the first places of a list may and must show.

A cap, a quota, a maximum share and the table of a fair ranking (FA*IR, Zehlike et al., CIKM 2017,
section 3) are all the same: for each group and each place, at most and at least so many up to
there. At each place the greedy takes, of the items that break the least important limits, the one
that gains the most. A limit that cannot be kept is so given up in the order of importance, least
first, and no place stays empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_class
from worker.ranking.model import Integers

ANY: Final = 1 << 40  # more than any list shows
MOST_LIMITS: Final = 62  # a bit each


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit on n candidates, for each of its groups."""

    name: str
    group: Sequence[int]  # [n] the number of the candidate's group, from 0; -1 for none
    at_most: Sequence[int] | None = None  # [depth] in the first 1, 2, … places; none beyond
    at_least: Sequence[int] | None = None  # [depth]

    @property
    def groups(self) -> int:
        """How many there are; what must be shown is one, even where nobody belongs to it."""
        return max(max(self.group, default=-1) + 1, int(self.at_least is not None))


@compiled_class
class Limits(NamedTuple):
    """All limits of a list, the most important first; groups are numbered through."""

    group: Integers  # [n, limits] of each item, or -1
    limit: Integers  # [groups] which limit it belongs to
    at_most: Integers  # [groups, depth]; what pins will take is taken off
    at_least: Integers  # [groups, depth]
    pinned: Integers  # [groups, depth] how many pins stand up to a place
    open: Integers  # [depth] how many places up to there hold no pin
    demanding: Integers  # the groups that something is asked of at least
    shown: Integers  # [groups] counted in the list that is built
    wanted: Integers  # [groups] 1 where the next place should be given to the group
    pressing: Integers  # [1] the group that is owed what all places left must pay; -1 for none
    tight: Integers  # [1] whether any item breaks anything at the next place

    def start(self) -> None:
        self.shown[:] = 0

    def look_ahead(self, place: int) -> None:
        """What holds items back at this place: a group that is full, or so much that is still owed,
        to the more important first, that this place has to pay.

        The most important group is found whose demand, with those before it, takes every place
        that is left up to some place; this one is then for one of these groups.
        """
        self.pressing[0], self.tight[0] = -1, 0
        for group in range(self.shown.size):
            if self.shown[group] >= self.at_most[group, place]:
                self.tight[0] = 1
        first, due = self.demanding.size, 0
        for until in range(place, self.open.size):
            owed = 0
            for number in range(first):
                group = self.demanding[number]
                coming = self.pinned[group, until] - self.pinned[group, place]
                owed += max(self.at_least[group, until] - self.shown[group] - coming, 0)
                if owed > self.open[until] - self.open[place]:
                    first, due = number, until
                    self.pressing[0] = group
                    break
        if self.pressing[0] >= 0:
            self.tight[0] = 1
            for number in range(self.demanding.size):
                group = self.demanding[number]
                coming = self.pinned[group, due] - self.pinned[group, place]
                lacks = self.at_least[group, due] > self.shown[group] + coming
                self.wanted[group] = 1 if number <= first and lacks else 0

    def burden(self, item: int, place: int) -> int:
        """The limits that the item breaks at this place, as bits; the most important is highest."""
        broken = 0
        limits = self.group.shape[1] if self.tight[0] == 1 else 0
        for limit in range(limits):
            group = self.group[item, limit]
            if group >= 0 and self.shown[group] >= self.at_most[group, place]:
                broken |= 1 << (limits - 1 - limit)
        if self.pressing[0] >= 0:
            for group in self.demanding:
                if self.wanted[group] == 1 and self.group[item, self.limit[group]] == group:
                    return broken
            broken |= 1 << (limits - 1 - self.limit[self.pressing[0]])
        return broken

    def heaviest(self, burden: int) -> int:
        """The most important of the limits in a burden."""
        limits = self.group.shape[1]
        for limit in range(limits):
            if burden & (1 << (limits - 1 - limit)):
                return limit
        return -1

    def take(self, item: int) -> None:
        """The list shows the item."""
        for limit in range(self.group.shape[1]):
            group = self.group[item, limit]
            if group >= 0:
                self.shown[group] += 1


NOTHING: Final = np.empty(0, dtype=np.int64)
NO_TABLE: Final = np.empty((0, 0), dtype=np.int64)
NONE: Final = Limits(
    group=NO_TABLE,
    limit=NOTHING,
    at_most=NO_TABLE,
    at_least=NO_TABLE,
    pinned=NO_TABLE,
    open=NOTHING,
    demanding=NOTHING,
    shown=NOTHING,
    wanted=NOTHING,
    pressing=np.full(1, -1, dtype=np.int64),
    tight=np.zeros(1, dtype=np.int64),
)


def counting(limits: Sequence[Limit]) -> list[Limit]:
    """Those that speak of anything, as many as are counted."""
    return [one for one in limits if one.groups][:MOST_LIMITS]


def limits_of(limits: Sequence[Limit], count: int, depth: int, pinned: Mapping[int, int]) -> Limits:
    """For the greedy over `count` items and `depth` places, with `pinned` (place -> item)."""
    if not limits:
        return NONE
    asked = (counts for one in limits for counts in (one.at_most, one.at_least))
    depth = max([depth, *map(len, filter(None, asked))])  # every page knows what is to come
    sizes = [one.groups for one in limits]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    total = int(starts[-1])
    group = np.full((count, len(limits)), -1, dtype=np.int64)
    at_most = np.full((total, depth), ANY, dtype=np.int64)
    at_least = np.zeros((total, depth), dtype=np.int64)
    for column, (one, start, size) in enumerate(zip(limits, starts, sizes, strict=False)):
        numbers = np.asarray(one.group, dtype=np.int64)
        group[:, column] = np.where(numbers >= 0, numbers + start, -1)
        for table, given in ((at_most, one.at_most), (at_least, one.at_least)):
            if given is not None:
                table[start : start + size, : len(given)] = given[:depth]
    members = np.bincount(group[group >= 0], minlength=total)
    at_least = np.minimum(at_least, members[:, np.newaxis])  # nobody is waited for in vain
    taken = np.zeros((total, depth), dtype=np.int64)
    free = np.ones(depth, dtype=np.int64)
    for place, item in pinned.items():
        if place < depth:
            free[place] = 0
            taken[group[item][group[item] >= 0], place] += 1
    taken = np.cumsum(taken, axis=1)
    room = np.minimum.accumulate((at_most - taken)[:, ::-1], axis=1)[:, ::-1] + taken
    return Limits(
        group=group,
        limit=np.repeat(np.arange(len(limits)), sizes).astype(np.int64),
        at_most=np.ascontiguousarray(room),
        at_least=at_least,
        pinned=taken,
        open=np.cumsum(free),
        demanding=np.flatnonzero(at_least.any(axis=1)).astype(np.int64),
        shown=np.empty(total, dtype=np.int64),
        wanted=np.empty(total, dtype=np.int64),
        pressing=np.empty(1, dtype=np.int64),
        tight=np.empty(1, dtype=np.int64),
    )


@compiled
def breaks(limits: Limits, order: Integers) -> int:
    """The limits that a list breaks, as bits; the most important is highest."""
    found, count = 0, limits.group.shape[1]
    limits.start()
    for place in range(order.size):
        for limit in range(count):
            group = limits.group[order[place], limit]
            if group >= 0 and limits.shown[group] >= limits.at_most[group, place]:
                found |= 1 << (count - 1 - limit)
        limits.take(order[place])
        for group in limits.demanding:
            if limits.shown[group] < limits.at_least[group, place]:
                found |= 1 << (count - 1 - limits.limit[group])
    return found


def as_good(limits: Sequence[Limit], order: Sequence[int]) -> Callable[[Sequence[int]], bool]:
    """Whether another list of the same items breaks no limit that `order` keeps."""
    counted = counting(limits)
    built = limits_of(counted, len(counted[0].group) if counted else 0, len(order), {})
    before = breaks(built, np.array(order, dtype=np.int64))
    return lambda other: breaks(built, np.array(other, dtype=np.int64)) & ~before == 0


@compiled
def mark_bound(limits: Limits, order: Integers, bound: Integers) -> None:
    """Mark the places whose item cannot change with the next one's without breaking a limit."""
    before = breaks(limits, order)
    for place in range(order.size - 1):
        order[place], order[place + 1] = order[place + 1], order[place]
        if breaks(limits, order) & ~before != 0:
            bound[place] = 1
        order[place], order[place + 1] = order[place + 1], order[place]


def bound_in(limits: Sequence[Limit], orders: Sequence[Sequence[int]]) -> frozenset[int]:
    """The places that are so in any of several lists of one length."""
    counted = counting(limits)
    if not counted:
        return frozenset()
    built = limits_of(counted, len(counted[0].group), len(orders[0]), {})
    found = np.zeros(len(orders[0]), dtype=np.int64)
    for order in np.array(orders, dtype=np.int64):
        mark_bound(built, order, found)
    return frozenset(np.flatnonzero(found).tolist())


def broken(limits: Sequence[Limit], order: Sequence[int]) -> tuple[str, ...]:
    """The names of the limits that a list does not keep, the most important first."""
    return tuple(one.name for one in limits if not _keeps(one, order))


def _keeps(limit: Limit, order: Sequence[int]) -> bool:
    shown = [0] * limit.groups
    most, least = limit.at_most or (), limit.at_least or ()
    for place, item in enumerate(order if shown else ()):
        group = limit.group[item]
        if group >= 0:
            shown[group] += 1
        if place < len(most) and max(shown) > most[place]:
            return False
        if place < len(least) and min(shown) < least[place]:
            return False
    return True
