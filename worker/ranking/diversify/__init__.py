"""Hop 5: scores -> the order of a list. A new method is one file, and one line in `METHODS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.ranking.diversify.coverage import Coverage
from worker.ranking.diversify.dial import TRADE_OFFS, choose
from worker.ranking.diversify.facets import Facets
from worker.ranking.diversify.greedy import Method, greedy
from worker.ranking.diversify.mmr import MMR
from worker.ranking.diversify.msd import MSD
from worker.ranking.diversify.volume import DPP, SSD
from worker.ranking.model import Doubles, Integers, Scores

METHODS: Final[dict[str, type[Method]]] = {
    "facets": Facets,
    "mmr": MMR,
    "coverage": Coverage,
    "msd": MSD,
    "dpp": DPP,
    "ssd": SSD,
}


@dataclass(frozen=True, slots=True)
class Diversified:
    """The chosen items, first place first, and the two terms of each one's gain."""

    order: Integers  # [depth]
    relevance_gain: Doubles  # [depth]
    diversity_gain: Doubles  # [depth], 0 or less: what repetition cost


def diversify(
    scores: Scores,
    utility: Doubles,
    method: str,
    dial: float,
    depth: int,
    *,
    places: int | None = None,
    pinned: dict[int, int] | None = None,
) -> Diversified:
    """The first `places` (default: `depth`) of the list that `dial` asks for.

    The dial weighs the first `depth` places; those that follow go on with the same trade-off, so
    that the pages of one list fit together. `utility` [n] is sorted, highest first, and `scores`
    are in that order.
    """
    pinned = pinned or {}
    count = len(utility)
    depth, places = min(depth, count), min(places or depth, count)
    trade_offs = TRADE_OFFS if dial > 0.0 else TRADE_OFFS[:1]
    lists = greedy(utility, METHODS[method](scores, len(trade_offs)), trade_offs, depth, pinned)
    run = choose(lists, utility, dial)
    if places != depth:
        alone = trade_offs[run : run + 1]
        lists, run = greedy(utility, METHODS[method](scores, 1), alone, places, pinned), 0
        weight = float(alone[0])
    else:
        weight = float(trade_offs[run])
    order = lists.order[run]
    return Diversified(order, utility[order], 0.0 - weight * np.asarray(lists.penalty[run]))
