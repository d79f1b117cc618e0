"""Facets: an item repeats a list by its brand, by its category, and by looking like what was shown.

Each facet is seen geometrically, as alpha-nDCG counts it (Clarke et al., SIGIR 2008, eq. 5):
after an item that matches by share m, what is still new of the facet is times 1 - alpha * m.
The facets that the candidates carry are averaged by their weights, so that titles alone will do.
The constants were chosen on chorus_icecat and crowdflower (`python -m training evaluate
--frontier`); a list of near copies needs a steep look-alike kernel, cosines of 0.6 are everyday.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.model import Doubles, Floats, Integers, Scores

LOOK_ALIKE_ALPHA: Final = 0.5
NAMED_ALPHA: Final = 0.3
LOOK_ALIKE_WEIGHT, BRAND_WEIGHT, CATEGORY_WEIGHT = 0.5, 0.4, 0.1


@compiled_class
class Facets(NamedTuple):
    """The weighted mean, over facets, of the share that a list has shown already."""

    left: Floats  # [3, n, n] what an item that is shown leaves new of another's facets
    weights: Doubles  # [3] of look-alike, brand, category; 0 for one that nobody carries
    unseen: Doubles  # [3, n] what is still new
    weighs_relevance: bool = True
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Facets:
        count = len(scores.vectors)
        cosine = np.clip(scores.vectors @ scores.vectors.T, 0.0, 1.0)
        squared = cosine * cosine
        left = np.empty((3, count, count), dtype=np.float32)
        left[0] = 1.0 - LOOK_ALIKE_ALPHA * (squared * squared * squared)  # cosine ** 6
        for row, shares in ((1, scores.brands), (2, scores.categories)):
            named = shares.astype(np.float32)
            left[row] = 1.0 - NAMED_ALPHA * (named @ named.T)
        weights = np.array(
            [
                LOOK_ALIKE_WEIGHT,
                BRAND_WEIGHT * scores.brands.any(),
                CATEGORY_WEIGHT * scores.categories.any(),
            ]
        )
        return cls(left, weights / weights.sum(), np.empty((3, count)))

    def start(self) -> None:
        self.unseen[:] = 1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """sum over facets of weight * (1 - prod over the list of (1 - alpha * match))."""
        for place in range(since, until):
            for facet in range(3):
                self.unseen[facet, item] *= self.left[facet, order[place], item]
        seen = 0.0
        for facet in range(3):
            seen += self.weights[facet] * (1.0 - self.unseen[facet, item])
        return seen

    def show(self, item: int) -> None:
        pass
