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
SQUARED, SHORTER, FACTOR = 0, 1, 2  # columns of what is known of an item; FACTOR and all behind it


def nothing_known(scores: Scores, depth: int) -> Doubles:
    """Room for what is known of each item, [n, 2 + depth].

    The squared residual (-1 where nothing was taken out yet), 1 / the residual of an item that is
    shown, and the item's row of the Cholesky factor: a column a place.
    """
    return np.empty((len(scores.vectors), FACTOR + depth))


@compiled_sum
def along_earlier(known: Doubles, item: int, shown: int, place: int) -> float:
    """What the directions of the places below `place` say of the inner product of two items."""
    total = 0.0
    for earlier in range(FACTOR, FACTOR + place):
        total += known[item, earlier] * known[shown, earlier]
    return total


@compiled
def take_out(along: float, known: Doubles, item: int, shown: int, place: int) -> None:
    """Take the direction that item `shown` added at `place` out of another item.

    `along` is the inner product of the two.
    """
    along = (along - along_earlier(known, item, shown, place)) * known[shown, SHORTER]
    known[item, FACTOR + place] = along
    known[item, SQUARED] = max(known[item, SQUARED] - along * along, 0.0)


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
    known: Doubles  # [n, 2 + depth]
    weighs_relevance: bool = True
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> DPP:
        return cls(scores.vectors, cosines_for(scores, runs), nothing_known(scores, depth))

    def start(self) -> None:
        self.known[:, SQUARED] = -1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """The share of the item's vector that the list spans already; 1 of no vector at all."""
        vectors, known = self.vectors, self.known
        if known[item, SQUARED] < 0.0:
            known[item, SQUARED] = length(vectors, item)
        for place in range(since, until):
            along = cosine(vectors, self.cosines, order[place], item)
            take_out(along, known, item, order[place], place)
        return float(1.0 - known[item, SQUARED])

    def show(self, item: int) -> None:
        self.known[item, SHORTER] = shortening(self.known[item, SQUARED])


@compiled_class
class SSD(NamedTuple):
    """Sliding spectrum decomposition (Huang et al., KDD 2021, equation 12), its window the list.

    The sum of relevance and of the volume that each item adds: the length of its residual. A
    constant 1 stands behind each vector, so that unlike ones are not all at right angles (section
    5.3); what an item repeats is counted from the length that unit vectors then have.
    """

    vectors: Floats  # [n, d]
    cosines: Floats
    known: Doubles  # [n, 2 + depth]
    weighs_relevance: bool = False
    falls: float = 0.0
    stepwise: bool = True

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> SSD:
        return cls(scores.vectors, cosines_for(scores, runs), nothing_known(scores, depth))

    def start(self) -> None:
        self.known[:, SQUARED] = -1.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """How much shorter the item's residual is than an unshown unit vector's."""
        vectors, known = self.vectors, self.known
        if known[item, SQUARED] < 0.0:
            known[item, SQUARED] = length(vectors, item) + 1.0
        for place in range(since, until):
            along = cosine(vectors, self.cosines, order[place], item) + 1.0
            take_out(along, known, item, order[place], place)
        residual = np.sqrt(known[item, SQUARED])
        return max(float(np.sqrt(2.0) - residual), 0.0)  # a length may round up

    def show(self, item: int) -> None:
        self.known[item, SHORTER] = shortening(self.known[item, SQUARED])
