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
from worker.ranking.diversify.cosines import cosine, kept
from worker.ranking.model import Doubles, Floats, Integers, Scores

LOOK_ALIKE_ALPHA: Final = 0.5
NAMED_ALPHA: Final = 0.3
LOOK_ALIKE_WEIGHT, BRAND_WEIGHT, CATEGORY_WEIGHT = 0.5, 0.4, 0.1


@compiled_class
class Facets(NamedTuple):
    """The weighted mean, over facets, of the share that a list has shown already."""

    vectors: Floats  # [n, d]
    known: Doubles  # cosines
    brand: Integers  # [n] its number, or -1
    categories: Doubles  # [n, C] P(category | item)
    weights: Doubles  # [3] of look-alike, brand, category; 0 for one that nobody carries
    unseen: Doubles  # [n, 3] what is still new
    weighs_relevance: bool = True
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Facets:
        count = len(scores.vectors)
        named = scores.brands.any(axis=1)
        brand = np.where(named, scores.brands.argmax(axis=1) if named.any() else -1, -1)
        weights = np.array(
            [
                LOOK_ALIKE_WEIGHT,
                BRAND_WEIGHT * named.any(),
                CATEGORY_WEIGHT * scores.categories.any(),
            ]
        )
        return cls(
            scores.vectors,
            kept(scores, runs),
            brand.astype(np.int64),
            np.ascontiguousarray(scores.categories, dtype=np.float64),
            weights / weights.sum(),
            np.empty((count, 3)),
        )

    def start(self) -> None:
        self.unseen[:] = 1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """sum over facets of weight * (1 - prod over the list of (1 - alpha * match))."""
        unseen = self.unseen[item]
        for place in range(since, until):
            shown = order[place]
            alike = min(max(cosine(self.vectors, self.known, item, shown), 0.0), 1.0)
            unseen[0] *= 1.0 - LOOK_ALIKE_ALPHA * alike**6
            if self.weights[1] > 0.0 and self.brand[item] == self.brand[shown] >= 0:
                unseen[1] *= 1.0 - NAMED_ALPHA
            if self.weights[2] > 0.0:
                alike = 0.0
                for category in range(self.categories.shape[1]):
                    alike += self.categories[item, category] * self.categories[shown, category]
                unseen[2] *= 1.0 - NAMED_ALPHA * alike
        seen = 0.0
        for facet in range(3):
            seen += self.weights[facet] * (1.0 - unseen[facet])
        return seen

    def show(self, item: int) -> None:
        pass
