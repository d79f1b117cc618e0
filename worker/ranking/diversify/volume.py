"""Volume: a list is as diverse as the body that its vectors span; a near copy adds nothing to it.

An item adds the length of what is left of its vector once the directions that were shown are taken
out. That residual is kept for all items by one column of the Cholesky factor of the Gram matrix a
step (Chen, Zhang & Zhou, NeurIPS 2018, "Fast greedy MAP inference for determinantal point process",
algorithm 1), O(n) for each item that was shown before, and no vectors are touched again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores

SPANNED: Final = 1e-10  # a squared residual below this is rounding: the item adds no direction


class Residuals:
    """The squared residual of each item in each of `runs` lists, as items are shown."""

    def __init__(self, gram: Doubles, runs: int) -> None:
        """`gram` [n, n]: the inner products of the items' vectors."""
        self.unshown = gram.diagonal()
        self._gram = gram
        self._columns: list[Doubles] = []  # of the factor: [runs, n] each
        self._runs = np.arange(runs)
        self.squared: Doubles = np.tile(self.unshown, (runs, 1))

    def show(self, chosen: Integers) -> None:
        """Take out the direction that item `chosen[r]` added to list r: [runs]."""
        left = self.squared[self._runs, chosen]
        column = self._gram[chosen]
        for earlier in self._columns:
            column = column - earlier[self._runs, chosen, np.newaxis] * earlier
        column = column / np.sqrt(np.maximum(left, SPANNED))[:, np.newaxis]
        column[left < SPANNED] = 0.0
        self._columns.append(column)
        self.squared = np.maximum(self.squared - column * column, 0.0)


class DPP:
    """A determinantal point process (Kulesza & Taskar 2012, section 3.1; greedy MAP, Chen et al.).

    The kernel is q_i * cosine * q_j with q ** 2 = relevance: at a trade-off of 1 each step takes
    the item of the largest determinant, relevance * squared residual.
    """

    weighs_relevance = True

    def __init__(self, scores: Scores, runs: int) -> None:
        vectors = scores.vectors.astype(np.float64)
        self._residuals = Residuals(vectors @ vectors.T, runs)
        self.redundancy: Doubles | Floats = np.zeros((runs, len(vectors)))

    def show(self, chosen: Integers) -> None:
        """The share of the item's vector that the list spans already."""
        self._residuals.show(chosen)
        self.redundancy = self._residuals.unshown - self._residuals.squared


class SSD:
    """Sliding spectrum decomposition (Huang et al., KDD 2021, equation 12), its window the list.

    The sum of relevance and of the volume that each item adds: the length of its residual. A
    constant 1 stands behind each vector, so that unlike ones are not all at right angles (section
    5.3); the residual is counted from that vector's length, which is that of an unshown item.
    """

    weighs_relevance = False

    def __init__(self, scores: Scores, runs: int) -> None:
        vectors = scores.vectors.astype(np.float64)
        self._residuals = Residuals(vectors @ vectors.T + 1.0, runs)
        self.redundancy: Doubles | Floats = np.zeros((runs, len(vectors)))

    def show(self, chosen: Integers) -> None:
        """How much shorter the item's residual is than its vector."""
        self._residuals.show(chosen)
        residuals = self._residuals
        self.redundancy = np.sqrt(residuals.unshown) - np.sqrt(residuals.squared)
