"""Where does what is relevant stand? Average precision, reciprocal rank, and the area under ROC."""

from __future__ import annotations

import math
from collections.abc import Sequence


def average_precision(relevant: Sequence[bool], total: int, k: int = 10) -> float:
    """The mean, over all `total` relevant items, of the precision at the place of each; those below
    k count 0. Its mean over queries is MAP (Manning, Raghavan & Schütze 2008, equation 8.8).

    >>> average_precision([True, False, True], total=2)
    0.8333333333333333
    """
    hits = [place for place, hit in enumerate(relevant[:k], start=1) if hit]
    return sum(n / place for n, place in enumerate(hits, start=1)) / total if total else 0.0


def reciprocal_rank(relevant: Sequence[bool], k: int = 10) -> float:
    """1 / the place of the first relevant item, 0 where none is in the first k. Its mean over
    queries is MRR (Voorhees, TREC-8 1999, section 3.1).

    >>> reciprocal_rank([False, True, True])
    0.5
    """
    return next((1.0 / place for place, hit in enumerate(relevant[:k], start=1) if hit), 0.0)


def roc_auc(relevant: Sequence[bool], total: int | None = None, count: int | None = None) -> float:
    """The chance that a relevant item stands above one that is not (Fawcett, Pattern Recognition
    Letters 2006, section 7). NaN where all items are of one kind.

    `total` of `count` items are relevant; those that the list does not hold stand below it, all on
    one level, and a pair on one level counts half. Default: the list holds all.

    >>> roc_auc([True, False, True, False])
    0.75
    >>> roc_auc([True], total=2, count=4)
    0.75
    """
    above = right = 0.0  # relevant items so far; pairs in the right order
    for hit in relevant:
        above, right = (above + 1, right) if hit else (above, right + above)
    total = int(above) if total is None else total
    others = (len(relevant) if count is None else count) - total
    unseen = others - (len(relevant) - above)  # that are not relevant
    right += above * unseen + 0.5 * (total - above) * unseen
    return right / (total * others) if total and others else math.nan
