"""Scoring a search silently with the challenger, after the champion's list is out.

It goes in small steps, a text or a pair at a time, so that whoever works for users can stop between
any two of them. Before, both models read a part of the search from nothing, for their times.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from worker.events import RankedList
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Model
from worker.ranking.pairs import pair_count, read_pairs
from worker.ranking.rerank import needed, read, rerank
from worker.ranking.text import item_text, pair_texts

PROBED = 2  # candidates, of a search, that both models read for their times

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Probe:
    """Seconds that both models took to read one candidate."""

    ours: float  # the challenger's
    theirs: float  # the champion's


@dataclass(frozen=True, slots=True)
class Shadow:
    """A search whose list is out."""

    search: JoinedSearch
    served: RankedList  # the champion's
    champion: Model
    challenger: Model

    def steps(self, clock: Callable[[], float]) -> Iterator[Probe | RankedList | None]:
        """The work in small steps: a Probe where one ends, the challenger's list last, or nothing.

        `clock` tells seconds. Raises whatever a model raises.
        """
        for row in range(min(PROBED, len(self.search.entries))):
            theirs = self._seconds(row, forgetful(self.champion), clock)
            yield None
            yield Probe(self._seconds(row, forgetful(self.challenger), clock), theirs)
        for text in needed((self.search,), self.challenger):
            if text not in self.challenger.readings:
                read((text,), self.challenger)
                yield None
        if self.challenger.pairs is not None and pair_count(self.search, self.challenger):
            for pair in self._pairs(range(len(self.search.entries)), self.challenger):
                if pair not in self.challenger.pairs.logits:
                    read_pairs((pair,), self.challenger.pairs, self.challenger.budget)
                    yield None
        (ranked,) = rerank((self.search,), self.challenger)
        yield ranked

    def _seconds(self, row: int, model: Model, clock: Callable[[], float]) -> float:
        item = self.search.entries[row].item
        text, pairs = item_text(item, model.template), self._pairs((row,), model)
        start = clock()
        read((text,), model)
        if model.pairs is not None:
            read_pairs(pairs, model.pairs, model.budget)
        return clock() - start

    def _pairs(self, rows: Sequence[int], model: Model) -> Sequence[tuple[str, str]]:
        if model.pairs is None or not pair_count(self.search, model):
            return ()
        return pair_texts(self.search, rows, model.pairs.template)


def forgetful(model: M) -> M:
    """The same graphs, and nothing read before."""
    made = copy.copy(model)
    made.readings = {}
    if made.pairs is not None:
        made.pairs = replace(made.pairs, logits={})
    return made
