"""Max-sum diversification (Borodin, Lee & Ye, PODS 2012, section 4): the sum of all distances.

f(S) = sum over i in S of relevance + trade-off * sum over pairs of S of (1 - cosine), by the greedy
of the paper. After s items have been shown an item adds s - sum of its cosines; s is the same for
all, so that what is left to weigh is the sum of the cosines.
"""

from __future__ import annotations

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores


class MSD:
    """An item repeats the list as much as it resembles all of its items together."""

    weighs_relevance = False

    def __init__(self, scores: Scores, runs: int) -> None:
        vectors = scores.vectors.astype(np.float64)
        self._similarity = vectors @ vectors.T
        self.redundancy: Doubles | Floats = np.zeros((runs, len(vectors)))

    def show(self, chosen: Integers) -> None:
        """sum over the list of the cosine with the item."""
        self.redundancy = self.redundancy + self._similarity[chosen]
