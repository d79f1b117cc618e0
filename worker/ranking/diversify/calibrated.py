"""Calibration: the places of a list are shared among categories as the user's taste is.

C_KL(p, q) = sum over c of p(c) * log(p(c) / q~(c)), in nats: p is P(category | user), q the mean of
P(category | item) over the list, and q~ = (1 - a) * q + a * p (Steck, RecSys 2018, "Calibrated
recommendations", section 3). The greedy is that of section 4: each item maximises (1 - lambda) *
s - lambda * C_KL of the list that it makes. Here s is the mean relevance of the list and not the
sum, so that the trade-off, lambda / (1 - lambda), is the same at the first place and at the last.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.diversify.pm2 import votes_of
from worker.ranking.model import Doubles, Integers, Scores

ALPHA: Final = 0.01  # the paper's: how much of the taste a list is taken to show in any case
FAINT: Final = 1e-12  # a category with less of the taste is none of it
FALLS: Final = 1.0 / ALPHA - float(np.log(ALPHA))
"""An item adds between -(1 - a) / a and -log(a), for C_KL is convex: it falls by less than this."""


@compiled_class
class Calibrated(NamedTuple):
    """An item repeats the list by what it adds to n * C_KL, the divergence of all n places.

    That is below 0 where it mends what the items above left undone. It is counted in nats: one
    weighs as much as the whole scale of relevance. A longer list has less to mend with each item,
    and where one category is much more relevant it keeps somewhat more than its share at any
    trade-off. An item of which no category is known takes a place and serves no taste.
    """

    categories: Doubles  # [n, C] P(category | item), of the categories of the taste alone
    taste: Doubles  # [C] P(category | user), above 0
    shown: Doubles  # [C] the sum of P(category | item) over the list
    rises: Doubles  # [C] by what share of itself q~ rises with P(category | next item)
    places: Doubles  # [1] n of the list
    missed: Doubles  # [1] n * C_KL of the list
    missing: Doubles  # [1] C_KL with a next item that is of no category
    weighs_relevance: bool = False
    falls: float = FALLS  # so much that every item is looked at
    stepwise: bool = False

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Calibrated:
        """Where no taste is known, it is what the query asks for: the votes of PM2."""
        taste = votes_of(scores) if scores.taste is None else scores.taste
        known = taste > FAINT * taste.sum()
        taste = taste[known] / taste[known].sum()
        categories = np.ascontiguousarray(scores.categories[:, known], dtype=np.float64)
        return cls(categories, taste, *np.empty((2, taste.size)), *np.empty((3, 1)))

    def start(self) -> None:
        self.shown[:] = 0.0
        self.places[0] = 0.0
        self.tally()

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """n * C_KL of the list with the item, less (n - 1) * C_KL of the list without."""
        divergence = self.missing[0]
        for category in range(self.taste.size):
            share = self.categories[item, category]
            if share > 0.0:
                divergence -= self.taste[category] * np.log1p(self.rises[category] * share)
        return float((self.places[0] + 1.0) * divergence - self.missed[0])

    def show(self, item: int) -> None:
        for category in range(self.taste.size):
            self.shown[category] += self.categories[item, category]
        self.places[0] += 1.0
        self.tally()

    def tally(self) -> None:
        """What the list misses of the taste, and what it would with one more place."""
        places, missed, missing = self.places[0], 0.0, 0.0
        for category in range(self.taste.size):
            taste, shown = self.taste[category], (1.0 - ALPHA) * self.shown[category]
            missed -= taste * np.log(shown / max(places, 1.0) / taste + ALPHA)
            ahead = shown / (places + 1.0) / taste + ALPHA
            missing -= taste * np.log(ahead)
            self.rises[category] = (1.0 - ALPHA) / ((places + 1.0) * taste * ahead)
        self.missed[0], self.missing[0] = places * missed, missing
