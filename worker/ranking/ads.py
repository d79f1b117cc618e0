"""The auction for sponsored slots: bid times relevance, as a policy allows it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from worker.events import Candidate
from worker.policies import Ads
from worker.ranking.diversify.slots import NO_SLOTS, ORDINARY, Slots
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Integers


def slots_of(
    search: JoinedSearch, items: Sequence[Candidate], relevance: Doubles | None, places: int
) -> Slots:
    """The offers of candidates and the slots of the first `places` of a list.

    An offer is bid x P(relevant) (Edelman, Ostrovsky & Schwarz, AER 2007, section 2: rank by bid
    times quality), above the policy's floor of relevance. Where no relevance is known, none can be
    shown to reach a floor; without a floor the bids alone compete.
    """
    ads = search.ads
    if ads is None or not any(item.sponsored for item in items):
        return NO_SLOTS
    offers = np.full(len(items), ORDINARY)
    for row, item in enumerate(items):
        if item.sponsored:
            quality = float(ads.floor == 0.0) if relevance is None else float(relevance[row])
            bid = max(item.bid or 0.0, 0.0)
            offers[row] = bid * quality if quality >= ads.floor else 0.0
    return Slots(offers, _upto(ads, min(search.event.k or len(items), len(items)), places))


def _upto(ads: Ads, page: int, places: int) -> Integers:
    """How many advertisements a list may show with each place; each page has its share of its own.

    >>> _upto(Ads(slots=(1, 3, 5), share_at_most=0.5), page=4, places=6).tolist()
    [2, 0, 2, 0, 4, 0]
    """
    share = 1.0 if ads.share_at_most is None else ads.share_at_most
    each = math.floor(share * page + 1e-9)
    upto = np.zeros(places, dtype=np.int64)
    for rank in ads.slots:
        if rank <= places:
            upto[rank - 1] = each * ((rank - 1) // page + 1)
    return upto
