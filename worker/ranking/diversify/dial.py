"""The dial: how much of the expected gain may be given up, and which list that buys.

With G0 the expected gain of the most relevant list and G1 that of the most diverse one, the list
at dial d is the most diverse one of the family whose expected gain is at least G0 - d * (G0 - G1).
As d grows more lists are admitted, so the diversity can only grow: monotone by construction.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.ranking.diversify.greedy import Lists
from worker.ranking.model import Doubles

TRADE_OFFS: Final = np.linspace(0.0, 1.0, 32)
"""The family of lists: 0 is the order by relevance."""
ROUNDING: Final = 1e-12


def expected_gain(lists: Lists, utility: Doubles) -> Doubles:
    """The discounted sum of relevance, list by list (DCG, Järvelin & Kekäläinen 2002): [runs]."""
    gains: Doubles = utility[lists.order] @ discounts(lists.order.shape[1])
    return gains


def diversity_of(lists: Lists) -> Doubles:
    """The method's own objective: the discounted sum of what is not redundant: [runs]."""
    novelty: Doubles = (1.0 - lists.redundancy) @ discounts(lists.order.shape[1])
    return novelty


def discounts(depth: int) -> Doubles:
    """1 / log2(rank + 1) for ranks 1 to `depth`."""
    return np.asarray(1.0 / np.log2(np.arange(depth) + 2.0))


def choose(lists: Lists, utility: Doubles, dial: float) -> int:
    """The index of the list that `dial` in [0, 1] asks for. Run 0 is the most relevant one.

    Of lists that had to give up limits, only those that gave up the least important count.
    """
    kept = np.flatnonzero(lists.burden == lists.burden.min())
    if dial == 0.0:
        return int(kept[0])
    gain, diversity = expected_gain(lists, utility)[kept], diversity_of(lists)[kept]
    most_diverse = np.lexsort((gain, diversity))[-1]
    floor = gain[0] - dial * (gain[0] - gain[most_diverse])
    admitted = np.flatnonzero(gain >= floor - ROUNDING * max(1.0, abs(float(gain[0]))))
    return int(kept[admitted[np.lexsort((gain[admitted], diversity[admitted]))[-1]]])
