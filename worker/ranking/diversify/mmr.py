"""Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998, section 2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.diversify.cosines import cosine, cosines_for
from worker.ranking.model import Doubles, Floats, Integers, Scores


@compiled_class
class MMR(NamedTuple):
    """An item repeats the list as much as it resembles the item that it is most similar to."""

    vectors: Floats  # [n, d]
    cosines: Floats
    nearest: (
        Doubles  # [n] the largest cosine with what was shown; what points apart repeats nothing
    )
    weighs_relevance: bool = False
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> MMR:
        return cls(scores.vectors, cosines_for(scores, runs), np.empty(len(scores.vectors)))

    def start(self) -> None:
        self.nearest[:] = 0.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """max over the list of the cosine with the item, or 0."""
        nearest: float = self.nearest[item]
        for place in range(since, until):
            alike = cosine(self.vectors, self.cosines, order[place], item)
            if alike > nearest:
                nearest = alike
        self.nearest[item] = nearest
        return nearest

    def show(self, item: int) -> None:
        pass
