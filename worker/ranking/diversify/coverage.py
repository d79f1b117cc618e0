"""Greedy category coverage: the number of categories that a reader can expect to have seen.

f(S) = sum over c of 1 - prod over i in S of (1 - P(c | i)), the seed's "expected number of kinds".
Its marginal gain is the sum of P(c | i) less the redundancy below. It is weighed by relevance, so
that a new category counts for what the item is worth: xQuAD (Santos et al., WWW 2010, equations 1
and 5, with P(d | q, aspect) = P(relevant) * P(c | i) and equal weights of the aspects).
"""

from __future__ import annotations

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores


class Coverage:
    """An item repeats the list by the chance that its category has been shown already."""

    weighs_relevance = True

    def __init__(self, scores: Scores, runs: int) -> None:
        self._categories = scores.categories
        self._unseen = np.ones((runs, scores.categories.shape[1]))
        self.redundancy: Doubles | Floats = np.zeros((runs, len(scores.categories)))

    def show(self, chosen: Integers) -> None:
        """sum over c of P(c | i) * (1 - prod over the list of (1 - P(c | j)))."""
        self._unseen *= 1.0 - self._categories[chosen]
        self.redundancy = (1.0 - self._unseen) @ self._categories.T
