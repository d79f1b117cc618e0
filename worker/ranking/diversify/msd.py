"""Max-sum diversification (Borodin, Lee & Ye, PODS 2012, section 4): the sum of all distances.

f(S) = sum over i in S of relevance + trade-off * sum over pairs of S of (1 - cosine), by the greedy
of the paper. After s items have been shown an item adds s - sum of its cosines; s is the same for
all, so that what is left to weigh is the sum of the cosines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.diversify.cosines import cosine, cosines_for
from worker.ranking.model import Doubles, Floats, Integers, Scores


@compiled_class
class MSD(NamedTuple):
    """An item repeats the list as much as it resembles all of its items together."""

    vectors: Floats  # [n, d]
    cosines: Floats
    together: Doubles  # [n] the sum of the cosines with what was shown
    weighs_relevance: bool = False
    falls: float = 1.000001  # a cosine may be -1
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> MSD:
        return cls(scores.vectors, cosines_for(scores, runs), np.empty(len(scores.vectors)))

    def start(self) -> None:
        self.together[:] = 0.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """sum over the list of the cosine with the item."""
        together: float = self.together[item]
        for place in range(since, until):
            together += cosine(self.vectors, self.cosines, order[place], item)
        self.together[item] = together
        return together

    def show(self, item: int) -> None:
        pass
