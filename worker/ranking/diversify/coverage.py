"""Greedy category coverage: the number of categories that a reader can expect to have seen.

f(S) = sum over c of 1 - prod over i in S of (1 - P(c | i)), the seed's "expected number of kinds".
Its marginal gain is the sum of P(c | i) less the redundancy below. It is weighed by relevance, so
that a new category counts for what the item is worth: xQuAD (Santos et al., WWW 2010, equations 1
and 5, with P(d | q, aspect) = P(relevant) * P(c | i) and equal weights of the aspects).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.model import Doubles, Integers, Scores


@compiled_class
class Coverage(NamedTuple):
    """An item repeats the list by the chance that its category has been shown already."""

    categories: Doubles  # [n, C] P(category | item)
    unseen: Doubles  # [C] the chance that the list shows none of the category
    weighs_relevance: bool = True
    falls: float = 0.0
    stepwise: bool = False

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Coverage:
        categories = np.ascontiguousarray(scores.categories, dtype=np.float64)
        return cls(categories, np.empty(categories.shape[1]))

    def start(self) -> None:
        self.unseen[:] = 1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """sum over c of P(c | i) * (1 - prod over the list of (1 - P(c | j)))."""
        total = 0.0
        for category in range(self.unseen.size):
            total += self.categories[item, category] * (1.0 - self.unseen[category])
        return total

    def show(self, item: int) -> None:
        for category in range(self.unseen.size):
            self.unseen[category] *= 1.0 - self.categories[item, category]
