"""The greedy that every method shares: one pass gives the lists of a whole family of trade-offs.

For each trade-off in [0, 1] the next item is the one that maximises utility - trade_off * penalty.
The penalty is the method's redundancy after what was chosen (Carbonell & Goldstein 1998 with
lambda from 1 to 1/2: beyond, relevance only breaks ties), or, where a method weighs relevance,
utility * redundancy (Santos et al. 2010): what is new counts for what it is worth.

A single list is built lazily (Minoux 1978, "Accelerated greedy algorithms for maximizing submodular
set functions"): redundancy only grows, so what an item reached when it was last looked at bounds
what it reaches now, and an item whose bound is not above the best is not looked at. In a family
nearly all items are looked at in one list or another: there each is told of each place at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from worker.ranking.diversify.compiled import compiled
from worker.ranking.diversify.limits import Limit, Limits, limits_of
from worker.ranking.model import Doubles, Integers, Scores


class Method(Protocol):
    """How much each item repeats what a list already shows. A named tuple of arrays, compiled."""

    @property
    def weighs_relevance(self) -> bool:
        """Whether what repeats is weighed by what it is worth."""

    @property
    def falls(self) -> float:
        """The most that redundancy may fall with an item that is shown."""

    @property
    def stepwise(self) -> bool:
        """Whether it costs no more to tell an item of one place after the other."""

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Self:
        """For `runs` lists of `depth` places, one after another."""

    def start(self) -> None:
        """A new list: nothing is shown yet."""

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """Of the item, after the places of `order` below `until`; those below `since` it knows."""

    def show(self, item: int) -> None:
        """The list now shows the item, which knows all that stood before it."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What the greedy built for each trade-off: [runs, depth]."""

    order: Integers
    redundancy: Doubles  # of each item at the moment when it was chosen
    penalty: Doubles  # what it costs at a trade-off of 1
    burden: Integers  # [runs] the limits that were given up, as bits; the most important is highest
    held: Integers  # which limit held back an item that would have gained more; -1 where none did


def greedy(
    utility: Doubles,
    method: Method,
    trade_offs: Doubles,
    depth: int,
    pinned: Mapping[int, int],
    limits: Sequence[Limit] = (),
) -> Lists:
    """Build the first `depth` places of a list for each of `trade_offs`.

    `utility` [n] is sorted, highest first, so that ties go to the item that stands first. An item
    in `pinned` (place -> item) stands there and nowhere else. `limits` hold, the most important
    first, as far as what is left can keep them.
    """
    order, held = np.full((2, len(trade_offs), depth), -1, dtype=np.int64)
    redundancy = np.empty((len(trade_offs), depth))
    burden = np.zeros(len(trade_offs), dtype=np.int64)
    pins = np.full(max(pinned, default=0) + depth + 1, -1, dtype=np.int64)
    for place, item in pinned.items():
        pins[place] = item
    build(
        method,
        limits_of(limits, len(utility), depth, pinned),
        np.ascontiguousarray(utility),
        trade_offs,
        pins,
        order,
        redundancy,
        burden,
        held,
        np.empty((3, len(utility))),
        np.empty(len(utility), dtype=np.int64),
    )
    penalty = redundancy * utility[order] if method.weighs_relevance else redundancy
    return Lists(order, redundancy, penalty, burden, held)


@compiled
def build(
    method: Method,
    limits: Limits,
    utility: Doubles,
    trade_offs: Doubles,
    pins: Integers,
    orders: Integers,
    redundancies: Doubles,
    burdens: Integers,
    held: Integers,
    scratch: Doubles,
    known: Integers,
) -> None:
    """Fill a row [depth] of `orders` and `redundancies`, and a burden, for each of the trade-offs.

    `pins` [depth or more] holds the item of a place, or -1. Of each item, `known` [n] keeps how
    many places it was told of (-1: not even of none), and `scratch` [3, n] its weight, what it
    repeats, and whether it is free.
    """
    count = utility.size
    weight, repeats, free = scratch[0], scratch[1], scratch[2]
    limited = limits.group.shape[1] > 0
    eager = method.stepwise and (trade_offs.size > 1 or limited)
    for run in range(trade_offs.size):
        order = orders[run]
        for item in range(count):
            weight[item] = trade_offs[run] * (utility[item] if method.weighs_relevance else 1.0)
            known[item], repeats[item], free[item] = -1, 0.0, 1.0
        for item in pins:
            if item >= 0:
                free[item] = 0.0
        method.start()
        limits.start()
        if eager:
            for item in range(count):
                if free[item] != 0.0:
                    repeats[item] = method.redundancy(item, order, 0, 0)
                    known[item] = 0
        for place in range(order.size):
            chosen = pins[place]
            if chosen < 0:
                limits.look_ahead(place)
                highest, lightest = -np.inf, -1
                for item in range(count):
                    if free[item] == 0.0:
                        continue
                    burden = limits.burden(item, place)
                    if lightest < 0 or burden < lightest:
                        highest, lightest, chosen = -np.inf, burden, -1
                    elif burden > lightest:
                        continue
                    reach = utility[item] - weight[item] * repeats[item]
                    if known[item] < place:
                        reach += weight[item] * method.falls * (place - known[item])
                    while known[item] < place and (reach > highest or chosen < 0):
                        until = max(known[item], 0) + 1 if method.stepwise else place
                        until = min(until, place)
                        repeats[item] = method.redundancy(item, order, max(known[item], 0), until)
                        known[item] = until
                        reach = utility[item] - weight[item] * repeats[item]
                        reach += weight[item] * method.falls * (place - until)
                    if known[item] == place and (reach > highest or chosen < 0):
                        highest, chosen = reach, item
                burdens[run] |= lightest
                if limited:  # who would have gained more?
                    for item in range(count):
                        reach = utility[item] - weight[item] * repeats[item]
                        if free[item] == 0.0 or reach <= highest:
                            continue
                        if known[item] < place:
                            repeats[item] = method.redundancy(
                                item, order, max(known[item], 0), place
                            )
                            known[item] = place
                            reach = utility[item] - weight[item] * repeats[item]
                        if reach > highest:
                            highest = reach
                            held[run, place] = limits.heaviest(
                                limits.burden(item, place) & ~lightest
                            )
            elif known[chosen] < place:
                repeats[chosen] = method.redundancy(chosen, order, max(known[chosen], 0), place)
                known[chosen] = place
            order[place] = chosen
            redundancies[run, place] = repeats[chosen]
            free[chosen] = 0.0
            method.show(chosen)
            limits.take(chosen)
            if eager:
                for item in range(count):
                    if free[item] != 0.0:
                        repeats[item] = method.redundancy(item, order, place, place + 1)
                        known[item] = place + 1
