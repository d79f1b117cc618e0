"""Novelty: how little known is what a list shows? (Zhou et al., PNAS 2010, "surprisal".)"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def novelty(
    ranked: Sequence[str],
    known_by: Mapping[str, float],
    people: float,
    k: int = 10,
    smoothing: float = 1.0,
) -> float:
    """The mean over the first k items of -log2 P(known), in bits; 0 for an empty list.

    P = (known_by + smoothing) / (people + 2 * smoothing): the share of `people` that know the item,
    by the rule of succession. So one that nobody knows yet, or that `known_by` does not name, has
    log2(people + 2) bits by default. Without smoothing it is the paper's log2(people / known_by),
    which has no value for such an item; with all clicks as `people` and an item's clicks as
    `known_by` that is the free discovery of Vargas & Castells (RecSys 2011).

    >>> novelty(["new"], {"old": 3}, people=6), novelty(["old", "new"], {"old": 3}, people=6)
    (3.0, 2.0)
    """
    top = ranked[:k]
    everyone = people + 2.0 * smoothing
    bits = [math.log2(everyone / (known_by.get(item, 0.0) + smoothing)) for item in top]
    return sum(bits) / len(bits) if bits else 0.0
