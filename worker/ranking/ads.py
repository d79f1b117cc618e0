"""The auction for sponsored slots: who bids, as a policy allows it. No price is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from worker.events import Candidate
from worker.ranking.diversify.slots import NO_SLOTS, ORDINARY, Slots
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles


def slots_of(
    search: JoinedSearch, items: Sequence[Candidate], relevance: Doubles | None, places: int
) -> Slots:
    """The offers of candidates and the slots of the first `places` of a list.

    An offer is bid x P(relevant), what a showing is worth where relevance stands for clicks (rank
    by revenue: Lahaie & Pennock, EC 2007). Where no relevance is known none can be shown to be
    enough: if the policy asks for some nobody wins, else the bids alone compete.
    """
    ads = search.ads
    if ads is None or not any(item.sponsored for item in items):
        return NO_SLOTS
    offers = np.full(len(items), ORDINARY)
    for row, item in enumerate(items):
        if item.sponsored:
            known = None if relevance is None else float(relevance[row])
            enough = (known or 0.0) >= ads.relevance_at_least
            offers[row] = max(item.bid or 0.0, 0.0) * (1.0 if known is None else known) * enough
    page = min(search.event.k or len(items), len(items))
    most = page if ads.share_at_most is None else math.floor(ads.share_at_most * page + 1e-9)
    found = np.zeros(places, dtype=np.int64)
    found[[rank - 1 for rank in ads.slots if rank <= places]] = 1
    return Slots(offers, found, page, most)
