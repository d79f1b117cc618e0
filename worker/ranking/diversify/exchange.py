"""Chains of exchanges mend a list where limits cross.

A cap by brand and one by seller may leave the greedy, which sees one place at a time, without an
item that keeps both. A chain mends that: an item goes out of the brand that shows too many; the one
that comes in is too many of its seller; of that seller one goes out, and so on, until one comes in
that breaks nothing. Chains are tried breadth-first, so that few items change, the last places
first; what one chain has led to, another need not lead to again.

To two limits an item is an edge between a group of the one and a group of the other. The chains on
which one of the two carries what is too much, or too little, are then the augmenting paths of
matroid intersection (Lawler, Mathematical Programming 9, 1975; Schrijver, Combinatorial
Optimization, 2003, section 41.2): two caps or quotas on the same first places are both kept
wherever some list keeps both. For three limits, and for tables that rise from place to place, that
is NP-hard. There the chains are ejection chains (Glover, Discrete Applied Mathematics 65, 1996): a
heuristic, bounded, and a list only changes where it then breaks less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_class
from worker.ranking.diversify.limits import Limit, Limits, limits_of
from worker.ranking.model import Integers

MOST_WORK: Final = 1 << 25  # exchanges weighed, times limits: of a page of 20 from 100, thousands
MOST_STATES: Final = 256  # the lists that a search looks at; those that two limits need come on top


@compiled_class
class Draft(NamedTuple):
    """A list that is mended, and what one item more or less of each group would change."""

    order: Integers  # [depth]
    stands: Integers  # [n] the place of an item: depth where it is free, -1 where it may not move
    excess: Integers  # [groups] how many items are too many or too few, summed over its steps
    more: Integers  # [groups, depth + 1] what one more, from a place on, adds to the excess
    fewer: Integers  # [groups, depth + 1] what one less adds
    steps: Integers  # [groups] at how many places a limit says what no other place says as well

    def recount(self, limits: Limits, group: int) -> None:
        """Fill in the rows of a group.

        A list only grows: at most two here says nothing where the next place allows two as well,
        at least two nothing where the one before demands them already.
        """
        limit, last, shown = limits.limit[group], self.order.size - 1, 0
        for item in self.order:
            shown += 1 if limits.group[item, limit] == group else 0
        self.excess[group] = self.steps[group] = 0
        self.more[group, last + 1] = self.fewer[group, last + 1] = 0
        for place in range(last, -1, -1):
            more, fewer = self.more[group, place + 1], self.fewer[group, place + 1]
            pins = limits.pinned[group, place]
            most, least = limits.at_most[group, place], limits.at_least[group, place]
            next_most, least_before = most + 1, 0
            if place < last:
                next_most = (
                    limits.at_most[group, place + 1] - limits.pinned[group, place + 1] + pins
                )
            if place > 0:
                least_before = limits.at_least[group, place - 1]
                least_before += pins - limits.pinned[group, place - 1]
            if most < next_most:
                self.steps[group] += 1
                self.excess[group] += max(shown - most, 0)
                more += 1 if shown >= most else 0
                fewer -= 1 if shown > most else 0
            if least > least_before:
                self.steps[group] += 1
                self.excess[group] += max(least - shown, 0)
                more -= 1 if shown < least else 0
                fewer += 1 if shown <= least else 0
            self.more[group, place], self.fewer[group, place] = more, fewer
            shown -= 1 if limits.group[self.order[place], limit] == group else 0

    def put(self, limits: Limits, place: int, item: int) -> None:
        """Exchange the item of a place for one that is free or stands below."""
        out, below = self.order[place], self.stands[item]
        self.order[place], self.stands[item], self.stands[out] = item, place, below
        if below < self.order.size:
            self.order[below] = out
        for limit in range(limits.group.shape[1]):
            gone, come = limits.group[out, limit], limits.group[item, limit]
            for group in (gone, come):
                if group >= 0 and gone != come:
                    self.recount(limits, group)


@compiled_class
class Search(NamedTuple):
    """The lists that chains lead to, by number; 0 is the one that is mended."""

    parent: Integers  # [states] the list that one more exchange made into this one
    place: Integers  # [states] where
    into: Integers  # [states] which item came
    out: Integers  # [states] which item went
    carries: Integers  # [states] the one group whose excess is above that of list 0; -1 for none
    many: Integers  # [states] 1 where it shows too many, 0 where it shows too few
    mixed: Integers  # [states] 1 where another limit, or too few after too many, carried before
    path: Integers  # [states] room for a chain
    seen: Integers  # [2, 2, groups, depth] by mixed, many, group and place: 1 where one was there
    before: Integers  # [groups] the excess of list 0
    above: Integers  # [limits] by how much more than list 0 the present list breaks
    change: Integers  # [limits] and a list that is an exchange away
    best: Integers  # [2, limits] the least of those: where no group's excess grows; where some may
    found: Integers  # [2, 3] the parent, the place and the item of these; -1 where nothing is less


@compiled
def less(one: Integers, other: Integers) -> bool:
    """Whether less is broken of the most important limit in which the two differ."""
    for limit in range(one.size):
        if one[limit] != other[limit]:
            return bool(one[limit] < other[limit])
    return False


@compiled
def weigh(
    limits: Limits, draft: Draft, search: Search, carried: int, place: int, item: int
) -> tuple[int, int, int]:
    """Fill in the `change` of an exchange.

    Gives how many groups have then more excess than in list 0, the last of them, and whether that
    one shows too many; -1 groups where the exchange mends nothing of what is carried.
    """
    out, below = draft.order[place], draft.stands[item]
    grown, last, many, mends = 0, -1, 0, False
    for limit in range(search.change.size):
        search.change[limit] = search.above[limit]
        gone, come = limits.group[out, limit], limits.group[item, limit]
        if gone == come:
            continue
        for sign, group in ((0, gone), (1, come)):
            if group < 0:
                continue
            rows = draft.more if sign == 1 else draft.fewer
            change = rows[group, place] - rows[group, below]
            search.change[limit] += change
            mends |= change < 0 and (carried < 0 or carried == group)
            if draft.excess[group] + change > search.before[group]:
                grown, last, many = grown + 1, group, sign
    return (grown if mends else -1), last, many


@compiled
def look(limits: Limits, draft: Draft, search: Search, state: int, size: int) -> int:
    """Look at the lists that are an exchange away from a state; gives the new number of states."""
    carried, many = search.carries[state], search.many[state]
    carrier = limits.limit[carried] if carried >= 0 else -1
    search.above[:] = 0
    for group in range(draft.excess.size):
        search.above[limits.limit[group]] += draft.excess[group] - search.before[group]
    for place in range(draft.order.size - 1, -1, -1):
        out = draft.order[place]
        if draft.stands[out] < 0 or (
            carried >= 0 and (limits.group[out, carrier] == carried) != (many == 1)
        ):
            continue
        for item in range(draft.stands.size):
            if draft.stands[item] <= place or (
                carried >= 0 and (limits.group[item, carrier] == carried) != (many == 0)
            ):
                continue
            grown, group, sign = weigh(limits, draft, search, carried, place, item)
            if grown < 0:
                continue
            for kind in range(2):
                if (kind == 1 or grown == 0) and less(search.change, search.best[kind]):
                    for limit in range(search.change.size):
                        search.best[kind, limit] = search.change[limit]
                    search.found[kind, 0] = state
                    search.found[kind, 1], search.found[kind, 2] = place, item
            if grown == 1:
                pure = carried < 0 or (carrier == limits.limit[group] and many == sign)
                mixed = search.mixed[state] if pure else 1
                step = place if draft.steps[group] > 1 else 0
                room = MOST_STATES if mixed == 1 else search.parent.size
                if size < room and search.seen[mixed, sign, group, step] == 0:
                    search.seen[mixed, sign, group, step] = 1
                    search.parent[size], search.place[size] = state, place
                    search.into[size], search.out[size] = item, out
                    search.carries[size], search.many[size] = group, sign
                    search.mixed[size] = mixed
                    size += 1
    return size


@compiled
def go(limits: Limits, draft: Draft, search: Search, state: int) -> None:
    """Turn list 0 into that of a state."""
    length = 0
    while state > 0:
        search.path[length] = state
        state, length = search.parent[state], length + 1
    for step in range(length - 1, -1, -1):
        each = search.path[step]
        draft.put(limits, search.place[each], search.into[each])


@compiled
def back(limits: Limits, draft: Draft, search: Search, state: int) -> None:
    """Turn it back."""
    while state > 0:
        draft.put(limits, search.place[state], search.out[state])
        state = search.parent[state]


@compiled
def exchange(limits: Limits, draft: Draft, search: Search) -> None:
    """While a chain leads to a list that breaks less, take it.

    The first is taken that breaks no limit more; where none is found, the one that breaks the
    least of the most important limit in which they differ. At MOST_WORK it ends.
    """
    for group in range(draft.excess.size):
        draft.recount(limits, group)
    work = 0
    while work < MOST_WORK:
        for group in range(draft.excess.size):
            search.before[group] = draft.excess[group]
        search.seen[:] = 0
        search.best[:] = 0
        search.found[:] = -1
        search.carries[0], search.mixed[0] = -1, 0
        state, size = 0, 1
        while state < size and search.found[0, 0] < 0 and work < MOST_WORK:
            work += draft.order.size * draft.stands.size * search.change.size
            go(limits, draft, search, state)
            size = look(limits, draft, search, state, size)
            back(limits, draft, search, state)
            state += 1
        kind = 0 if search.found[0, 0] >= 0 else 1
        if search.found[kind, 0] < 0:
            return
        go(limits, draft, search, search.found[kind, 0])
        draft.put(limits, search.found[kind, 1], search.found[kind, 2])


def exchanged(
    limits: Sequence[Limit],
    order: Integers,
    count: int,
    pinned: Mapping[int, int],
    barred: Integers | None = None,
) -> dict[int, int]:
    """place -> item of a list over `count` items, after `exchange`.

    Pinned items stay, and `barred` ones neither come in nor go.
    """
    depth = len(order)
    built = limits_of(limits, count, depth, pinned)
    groups, width = len(built.limit), built.group.shape[1]
    stands = np.full(count, depth, dtype=np.int64)
    stands[order] = np.arange(depth)
    stands[list(pinned.values())] = -1
    stands[[] if barred is None else barred] = -1
    excess, steps, before = np.zeros((3, groups), dtype=np.int64)
    more, fewer = np.zeros((2, groups, depth + 1), dtype=np.int64)
    draft = Draft(order.copy(), stands, excess, more, fewer, steps)
    states = MOST_STATES + 2 * groups
    parent, place, into, out, carries, many, mixed, path = np.zeros((8, states), dtype=np.int64)
    seen = np.zeros((2, 2, groups, depth), dtype=np.int64)
    above, change = np.zeros((2, width), dtype=np.int64)
    best, found = np.zeros((2, width), dtype=np.int64), np.zeros((2, 3), dtype=np.int64)
    chains = (parent, place, into, out, carries, many, mixed, path)
    search = Search(*chains, seen, before, above, change, best, found)
    exchange(built, draft, search)
    return dict(enumerate(draft.order.tolist()))
