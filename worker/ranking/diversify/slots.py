"""Sponsored slots in the greedy: places that an advertisement may take from what would stand there.

At a slot the highest offer wins, if it breaks no limit that the greedy's own choice keeps; what
follows is diversified with the winner in the list. No advertisement stands anywhere else until
there is nothing else left that may stand anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from worker.ranking.model import Doubles, Integers

ORDINARY: Final = -1.0


class Slots(NamedTuple):
    """Who bids on n candidates, and for which places; both are empty where there is no auction."""

    offers: Doubles  # [n] ORDINARY for what is no advertisement; 0 for one that may not win
    places: Integers  # [any] 1 where a place is a slot
    page: int  # how many places a page has
    most: int  # advertisements on a page

    def bids(self, item: int) -> bool:
        """Whether an item is an advertisement, of which none is shown but in a slot."""
        return bool(self.offers.size and self.offers[item] > ORDINARY)


NO_SLOTS: Final = Slots(np.empty(0), np.empty(0, dtype=np.int64), 1, 0)
