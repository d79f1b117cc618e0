"""Facility location: a list is as diverse as the part of the pool that it stands for.

f(S) = sum over the pool's items j of (sum over i in S of the cosine of i and j) ** 1/2, a concave
function of how well each is covered (Lin & Bilmes, ACL 2011, "A class of submodular functions for
document summarization", equation 5), so that gains diminish. An item's gain is divided by the
largest that any item of the pool has alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_class, compiled_sum
from worker.ranking.model import Doubles, Floats, Integers, Scores


@compiled_sum
def roots(cosines: Floats) -> float:
    """[n]: sum of cosine ** 1/2."""
    total = np.float32(0.0)
    for other in range(cosines.size):
        total += np.sqrt(cosines[other])
    return float(total)


@compiled_sum
def gained(covered: Floats, cosines: Floats) -> float:
    """[n], [n]: sum of (covered + cosine) ** 1/2 - covered ** 1/2."""
    total = np.float32(0.0)
    for other in range(covered.size):
        before = covered[other]
        total += np.sqrt(before + cosines[other]) - np.sqrt(before)
    return float(total)


@compiled
def prepare(cosines: Floats, alone: Doubles) -> None:
    """Let what points apart cover nothing, and fill in what each item gains alone: [n, n], [n]."""
    for item in range(alone.size):
        for other in range(alone.size):
            cosines[item, other] = max(cosines[item, other], np.float32(0.0))
        alone[item] = roots(cosines[item])


@compiled_class
class Cover(NamedTuple):
    """An item repeats the list by what the list covers of the items that it would stand for."""

    cosines: Floats  # [n, n], at least 0
    alone: Doubles  # [n] the gain of each before anything is shown
    largest: float  # of those gains
    covered: Floats  # [n] the sum of the cosines with what was shown
    weighs_relevance: bool = False
    falls: float = 0.0
    stepwise: bool = False

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Cover:
        cosines, alone = scores.vectors @ scores.vectors.T, np.empty(len(scores.vectors))
        prepare(cosines, alone)
        largest = float(alone.max(initial=0.0)) or 1.0
        return cls(cosines, alone, largest, np.empty(len(alone), dtype=np.float32))

    def start(self) -> None:
        self.covered[:] = 0.0

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """What is missing to the largest gain that an item has alone, as a share of it."""
        gain = gained(self.covered, self.cosines[item]) if until > 0 else self.alone[item]
        return float(1.0 - gain / self.largest)

    def show(self, item: int) -> None:
        for other in range(self.covered.size):
            self.covered[other] += self.cosines[item, other]
