"""Volume: a list is as diverse as the body that its vectors span; a near copy adds nothing to it.

An item adds the length of what is left of its vector once the directions that were shown are taken
out. That residual is kept by the item's row of the Cholesky factor of the Gram matrix (Chen, Zhang
& Zhou, NeurIPS 2018, "Fast greedy MAP inference for determinantal point process", algorithm 1),
O(places) for each item that was shown, and no vectors are touched again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_class, compiled_sum
from worker.ranking.diversify.cosines import cosine, cosines_for
from worker.ranking.model import Doubles, Floats, Integers, Scores

SPANNED: Final = 1e-6  # a squared residual below this is rounding: the item adds no direction


@compiled_sum
def along_earlier(factor: Doubles, item: int, shown: int, place: int) -> float:
    """What the directions of the places below `place` say of the cosine of two items."""
    total = 0.0
    for earlier in range(place):
        total += factor[item, earlier] * factor[shown, earlier]
    return total


@compiled
def take_out(
    along: float,
    factor: Doubles,
    squared: Doubles,
    shorter: Doubles,
    item: int,
    shown: int,
    place: int,
) -> None:
    """Take the direction that item `shown` added at `place` out of another item.

    `along` is the inner product of the two. The factor is [n, depth], and `squared` [n] holds the
    squared residual of each item as far as it has been told; `shorter` [n] is 1 / residual of those
    that are shown.
    """
    along = (along - along_earlier(factor, item, shown, place)) * shorter[shown]
    factor[item, place] = along
    squared[item] = max(squared[item] - along * along, 0.0)


@compiled
def length(vectors: Floats, item: int) -> float:
    """1 of a unit vector, 0 of none."""
    for column in range(vectors.shape[1]):
        if vectors[item, column] != 0.0:
            return 1.0
    return 0.0


@compiled
def shortening(squared: float) -> float:
    """1 / residual; 0 where nothing is left that would be a direction."""
    return float(1.0 / np.sqrt(squared)) if squared >= SPANNED else 0.0


@compiled_class
class DPP(NamedTuple):
    """A determinantal point process (Kulesza & Taskar 2012, section 3.1; greedy MAP, Chen et al.).

    The kernel is q_i * cosine * q_j with q ** 2 = relevance: at a trade-off of 1 each step takes
    the item of the largest determinant, relevance * squared residual.
    """

    vectors: Floats  # [n, d]
    cosines: Floats
    factor: Doubles  # [n, depth]
    squared: Doubles  # [n] the squared length of what is left; -1 where nothing was taken out yet
    shorter: Doubles  # [n] 1 / the length of that, of those that are shown
    weighs_relevance: bool = True
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> DPP:
        count = len(scores.vectors)
        factor = np.empty((count, depth))
        return cls(scores.vectors, cosines_for(scores, runs), factor, *np.empty((2, count)))

    def start(self) -> None:
        self.squared[:] = -1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """The share of the item's vector that the list spans already; 1 of no vector at all."""
        vectors, cosines, factor, squared = self.vectors, self.cosines, self.factor, self.squared
        if squared[item] < 0.0:
            squared[item] = length(vectors, item)
        for place in range(since, until):
            shown = order[place]
            along = cosine(vectors, cosines, shown, item)
            take_out(along, factor, squared, self.shorter, item, shown, place)
        return float(1.0 - squared[item])

    def show(self, item: int) -> None:
        self.shorter[item] = shortening(self.squared[item])


@compiled_class
class SSD(NamedTuple):
    """Sliding spectrum decomposition (Huang et al., KDD 2021, equation 12), its window the list.

    The sum of relevance and of the volume that each item adds: the length of its residual. A
    constant 1 stands behind each vector, so that unlike ones are not all at right angles (section
    5.3); what an item repeats is counted from the length that unit vectors then have.
    """

    vectors: Floats  # [n, d]
    cosines: Floats
    factor: Doubles  # [n, depth]
    squared: Doubles  # [n] the residual, squared; -1 where none was computed
    shorter: Doubles  # [n] 1 / the length of that, of those that are shown
    weighs_relevance: bool = False
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> SSD:
        count = len(scores.vectors)
        factor = np.empty((count, depth))
        return cls(scores.vectors, cosines_for(scores, runs), factor, *np.empty((2, count)))

    def start(self) -> None:
        self.squared[:] = -1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """How much shorter the item's residual is than an unshown unit vector's."""
        vectors, cosines, factor, squared = self.vectors, self.cosines, self.factor, self.squared
        if squared[item] < 0.0:
            squared[item] = length(vectors, item) + 1.0
        for place in range(since, until):
            shown = order[place]
            along = cosine(vectors, cosines, shown, item) + 1.0
            take_out(along, factor, squared, self.shorter, item, shown, place)
        return max(float(np.sqrt(2.0) - np.sqrt(squared[item])), 0.0)  # a length may round up

    def show(self, item: int) -> None:
        self.shorter[item] = shortening(self.squared[item])
