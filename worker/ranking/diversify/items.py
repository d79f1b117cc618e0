"""What the greedy knows of each item while it builds a list."""

from __future__ import annotations

from typing import NamedTuple

from worker.ranking.diversify.compiled import compiled
from worker.ranking.diversify.method import Method
from worker.ranking.model import Doubles, Integers

FREE, BIDS, STANDS = 1.0, 0.5, 0.0


class Items(NamedTuple):
    """What is known of each item while a list is built: [n]."""

    utility: Doubles
    weight: Doubles  # the trade-off, times utility where the method weighs relevance
    repeats: Doubles  # its redundancy, as far as it was told
    known: Integers  # of how many places it was told; -1: not even of none
    free: Doubles  # FREE to stand anywhere, BIDS for a slot only, STANDS already


@compiled
def reach_of(method: Method, items: Items, item: int, place: int) -> float:
    """The most that an item can gain at a place; exact where it was told of all places above."""
    missed = place - items.known[item]
    return float(
        items.utility[item] - items.weight[item] * (items.repeats[item] - method.falls * missed)
    )


@compiled
def tell(method: Method, items: Items, order: Integers, item: int, until: int) -> None:
    """Tell an item of the places below `until`."""
    since = max(items.known[item], 0)
    items.repeats[item] = method.redundancy(item, order, since, until)
    items.known[item] = until


@compiled
def tell_all(method: Method, items: Items, order: Integers, until: int) -> None:
    """Tell every item that may still stand."""
    for item in range(items.utility.size):
        if items.free[item] != STANDS:
            tell(method, items, order, item, until)
