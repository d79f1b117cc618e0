"""Scoring a search silently with the challenger, after the champion's list is out.

It goes in small steps, a text or a pair at a time, so that whoever works for users can stop between
any two of them. Before, both models read a part of the search from nothing, for their times.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from worker.events import RankedList
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import first_stage
from worker.ranking.model import Model
from worker.ranking.pairs import pair_count, read_pairs, rows_read
from worker.ranking.rerank import needed, read, rerank
from worker.ranking.spelling import spelled
from worker.ranking.text import item_text, pair_texts

LOG = logging.getLogger(__name__)
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
        read_as = spelled(self.search, self.challenger)
        return replace(self, search=read_as)._steps(clock)

    def _steps(self, clock: Callable[[], float]) -> Iterator[Probe | RankedList | None]:
        for row in range(min(PROBED, len(self.search.entries))):
            theirs = self._champions(row, clock)
            yield None
            if theirs is not None:
                yield Probe(self._seconds(row, forgetful(self.challenger), clock), theirs)
        for text in needed((self.search,), self.challenger):
            if text not in self.challenger.readings:
                read((text,), self.challenger)
                yield None
        if self.challenger.pairs is not None:
            for pair in self._pairs(self._rows(), self.challenger):
                if pair not in self.challenger.pairs.logits:
                    read_pairs((pair,), self.challenger.pairs, self.challenger.budget)
                    yield None
        (ranked,) = rerank((self.search,), self.challenger)
        yield ranked

    def _champions(self, row: int, clock: Callable[[], float]) -> float | None:
        """Seconds of the champion; None where it fails, of which its own lists tell."""
        try:
            return self._seconds(row, forgetful(self.champion), clock)
        except Exception:
            LOG.exception("the champion could not read a candidate again")
            return None

    def _rows(self) -> Sequence[int]:
        """The candidates whose pairs the challenger wants, once it has read all texts."""
        readings = read(needed((self.search,), self.challenger), self.challenger)
        judged = first_stage(self.search, readings, self.challenger)
        return rows_read(self.search, judged, self.challenger)

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
