"""Sponsored slots in the greedy: places that an advertisement may take from what would stand there.

At a slot the highest offer wins, if it breaks no limit that the greedy's own choice keeps; what
follows is diversified with the winner in the list. No advertisement stands anywhere else, unless
there is nothing else left.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, NamedTuple

import numpy as np

from worker.ranking.model import Doubles, Integers

ORDINARY: Final = -1.0


class Slots(NamedTuple):
    """Who bids on n candidates, and for which places; both are empty where there is no auction."""

    offers: Doubles  # [n] ORDINARY for what is no advertisement; 0 for one that may not win
    upto: Integers  # [any] how many a list may show with this place; 0 where there is no slot

    def won(self, order: Sequence[int], pinned: Container[int]) -> dict[int, float]:
        """place -> the offer that won it; what is pinned there did not have to win."""
        found: dict[int, float] = {}
        shown = 0
        for place, item in enumerate(order) if self.offers.size else ():
            offer = float(self.offers[item])
            slot = place < self.upto.size and shown < self.upto[place]
            if offer > 0.0 and slot and place not in pinned:
                found[place] = offer
            shown += offer >= 0.0
        return found


NO_SLOTS: Final = Slots(np.empty(0), np.empty(0, dtype=np.int64))
