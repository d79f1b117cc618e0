"""What a method of diversification is to the greedy that all of them share."""

from __future__ import annotations

from typing import Protocol, Self

from worker.ranking.model import Integers, Scores


class Method(Protocol):
    """How much each item repeats what a list already shows. A named tuple of arrays, compiled."""

    @property
    def weighs_relevance(self) -> bool:
        """Whether what repeats is weighed by what it is worth."""

    @property
    def falls(self) -> float:
        """The most that redundancy may fall with an item that is shown; if not at all, it is never
        below 0."""

    @property
    def stepwise(self) -> bool:
        """Whether it costs no more to tell an item of one place after the other."""

    @classmethod
    def of(cls, scores: Scores, depth: int, runs: int) -> Self:
        """For `runs` lists of `depth` places, one after another."""

    def start(self) -> None:
        """A new list: nothing is shown yet."""

    def redundancy(self, item: int, order: Integers, since: int, until: int) -> float:
        """Of the item, after the places of `order` below `until`; those below `since` it knows."""

    def show(self, item: int) -> None:
        """The list now shows the item, which knows all that stood before it."""
