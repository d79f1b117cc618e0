"""Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998, section 2)."""

from __future__ import annotations

import numpy as np

from worker.ranking.model import Doubles, Floats, Integers, Scores


class MMR:
    """An item repeats the list as much as it resembles the item that it is most similar to."""

    weighs_relevance = False

    def __init__(self, scores: Scores, runs: int) -> None:
        vectors = scores.vectors.astype(np.float64)
        self._similarity = vectors @ vectors.T
        self.redundancy: Doubles | Floats = np.zeros((runs, len(vectors)))
        self._first = True

    def show(self, chosen: Integers) -> None:
        """max over the list of the cosine with the item."""
        shown = self._similarity[chosen]
        if self._first:
            self.redundancy, self._first = shown, False
        else:
            np.maximum(self.redundancy, shown, out=self.redundancy)
