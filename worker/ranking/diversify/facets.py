"""Facets: an item repeats a list by its brand, by its category, and by looking like what was shown.

Each facet is seen geometrically, as alpha-nDCG counts it (Clarke et al., SIGIR 2008, eq. 5):
after an item that matches by share m, what is still new of the facet is times 1 - alpha * m.
The facets that the candidates carry are averaged by their weights, so that titles alone will do.
The constants were chosen on chorus_icecat and crowdflower (`python -m training evaluate
--frontier`); a list of near copies needs a steep look-alike kernel, cosines of 0.6 are everyday.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores

LOOK_ALIKE_ALPHA: Final = 0.5
NAMED_ALPHA: Final = 0.3
LOOK_ALIKE_WEIGHT, BRAND_WEIGHT, CATEGORY_WEIGHT = 0.5, 0.4, 0.1


class Facets:
    """The weighted mean, over facets, of the share that a list has shown already."""

    weighs_relevance = True

    def __init__(self, scores: Scores, runs: int) -> None:
        count = len(scores.vectors)
        cosine = np.clip(scores.vectors @ scores.vectors.T, 0.0, 1.0)
        squared = cosine * cosine
        look_alike = squared * squared * squared  # cosine ** 6; a power of floats costs ten times
        brands = scores.brands.astype(np.float32)
        categories = scores.categories.astype(np.float32)
        weighted = [
            (LOOK_ALIKE_WEIGHT, LOOK_ALIKE_ALPHA, look_alike),
            (BRAND_WEIGHT * brands.any(), NAMED_ALPHA, brands @ brands.T),
            (CATEGORY_WEIGHT * categories.any(), NAMED_ALPHA, categories @ categories.T),
        ]
        total = sum(weight for weight, _, _ in weighted)
        self._facets = [
            (np.float32(weight / total), np.float32(1.0) - np.float32(alpha) * match)
            for weight, alpha, match in weighted
            if weight > 0.0
        ]
        self._unseen = [np.ones((runs, count), dtype=np.float32) for _ in self._facets]
        self.redundancy: Doubles | Floats = np.zeros((runs, count))

    def show(self, chosen: Integers) -> None:
        """sum over facets of weight * (1 - prod over the list of (1 - alpha * match))."""
        seen: Floats = np.ones((), dtype=np.float32)
        for (weight, unseen_after), unseen in zip(self._facets, self._unseen, strict=True):
            unseen *= unseen_after[chosen]
            seen = seen - weight * unseen
        self.redundancy = seen
