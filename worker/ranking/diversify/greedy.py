"""The greedy that every method shares: one pass gives the lists of a whole family of trade-offs.

For each trade-off in [0, 1] the next item is the one that maximises utility - trade_off * penalty.
The penalty is the method's redundancy after what was chosen (Carbonell & Goldstein 1998 with
lambda from 1 to 1/2: beyond, relevance only breaks ties), or, where a method weighs relevance,
utility * redundancy (Santos et al. 2010): what is new counts for what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores


class Method(Protocol):
    """How much each item repeats what a list already shows, for many lists at once."""

    weighs_relevance: bool
    redundancy: Doubles | Floats  # [runs, n] in [-1, 1]; 0 where nothing is repeated

    def __init__(self, scores: Scores, runs: int) -> None:
        """Nothing is shown yet in any of the `runs` lists."""

    def show(self, chosen: Integers) -> None:
        """Item `chosen[r]` was added to list r: [runs]."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What the greedy built for each trade-off: [runs, depth]."""

    order: Integers
    redundancy: Doubles  # of each item at the moment when it was chosen
    penalty: Doubles  # what it costs at a trade-off of 1


def greedy(
    utility: Doubles, method: Method, trade_offs: Doubles, depth: int, pinned: Mapping[int, int]
) -> Lists:
    """Build the first `depth` places of a list for each of `trade_offs`.

    `utility` [n] is sorted, highest first, so that ties go to the item that stands first. An item
    in `pinned` (place -> item) stands there and nowhere else.
    """
    runs = np.arange(len(trade_offs))
    order = np.empty((len(runs), depth), dtype=np.int64)
    redundancy = np.empty((len(runs), depth))
    open_utility = np.tile(utility, (len(runs), 1))
    open_utility[:, list(pinned.values())] = -np.inf
    weights = trade_offs[:, np.newaxis] * (utility if method.weighs_relevance else 1.0)
    objective = np.empty_like(open_utility)
    for place in range(depth):
        if place in pinned:
            chosen = np.full(len(runs), pinned[place], dtype=np.int64)
        else:
            np.multiply(weights, method.redundancy, out=objective)
            np.subtract(open_utility, objective, out=objective)
            chosen = objective.argmax(axis=1)
        order[:, place] = chosen
        redundancy[:, place] = method.redundancy[runs, chosen]
        open_utility[runs, chosen] = -np.inf
        method.show(chosen)
    penalty = redundancy * utility[order] if method.weighs_relevance else redundancy
    return Lists(order, redundancy, penalty)
