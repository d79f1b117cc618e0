"""PM-2: proportional representation (Dang & Croft, SIGIR 2012, section 4.2, algorithm 2).

Each category has as many votes as relevant items are expected in it. A place goes to the category
whose quotient of votes and seats is the largest (Sainte-Laguë), and to the item that is worth the
most to it and, with the rest of the weight, to the others; the item's categories share the seat.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled_class
from worker.ranking.model import Doubles, Integers, Scores

LEADING: Final = 0.5  # the paper's lambda: the weight of the category whose turn it is


def votes_of(scores: Scores) -> Doubles:
    """[C]: how many relevant items can be expected of each category."""
    worth = 1.0 / (1.0 + np.exp(-scores.raw)) if scores.relevance is None else scores.relevance
    return np.asarray(worth @ scores.categories, dtype=np.float64)


@compiled_class
class PM2(NamedTuple):
    """An item repeats the list as far as its categories have their share of it already."""

    categories: Doubles  # [n, C] P(category | item)
    votes: Doubles  # [C]
    seats: Doubles  # [C] of the list
    quotients: Doubles  # [C] votes per seat to be, weighed by whose turn it is
    largest: float  # that an item could have
    weighs_relevance: bool = True
    falls: float = 1.0  # seats of others make a category's turn come
    stepwise: bool = False

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> PM2:
        categories = np.ascontiguousarray(scores.categories, dtype=np.float64)
        votes = votes_of(scores)
        largest = max(LEADING, 1.0 - LEADING) * float(votes.max(initial=0.0))
        return cls(categories, votes, np.empty_like(votes), np.empty_like(votes), largest or 1.0)

    def start(self) -> None:
        self.seats[:] = 0.0
        self.turn()

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """What is missing to the largest sum of weight * quotient * P(c | i), as a share of it."""
        total = 0.0
        for category in range(self.quotients.size):
            total += self.quotients[category] * self.categories[item, category]
        return 1.0 - total / self.largest

    def show(self, item: int) -> None:
        total = 0.0
        for category in range(self.seats.size):
            total += self.categories[item, category]
        if total > 0.0:
            for category in range(self.seats.size):
                self.seats[category] += self.categories[item, category] / total
        self.turn()

    def turn(self) -> None:
        """Whose turn it is, and what an item is worth to each."""
        leading = 0
        for category in range(self.seats.size):
            self.quotients[category] = self.votes[category] / (2.0 * self.seats[category] + 1.0)
            if self.quotients[category] > self.quotients[leading]:
                leading = category
        for category in range(self.seats.size):
            self.quotients[category] *= LEADING if category == leading else 1.0 - LEADING
