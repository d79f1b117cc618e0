"""What a model learns from: lists as the worker saw them, with a grade for each candidate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from training.judgments import GradedQuery
from worker.ranking.join import Dials, JoinedSearch, join
from worker.ranking.model import Doubles, Model
from worker.ranking.spelling import spelled


@dataclass(frozen=True, slots=True)
class LabelledList:
    """A search and what its candidates are worth.

    `grades` [n] in [0, 1] are aligned with `search.entries`; `weights` [n] >= 0 say how much each
    counts: 1 for a human label, the mass of examination for a grade that clicks give.
    """

    search: JoinedSearch
    grades: Doubles
    weights: Doubles

    @property
    def teaches(self) -> bool:
        """Whether a pair model can learn from it: it has a query, and a grade that counts."""
        return bool(self.search.event.user_query.strip()) and bool(self.weights.any())


def as_read(lists: Iterable[LabelledList], model: Model) -> list[LabelledList]:
    """The lists with their queries as the model's bundle reads them."""
    return [replace(one, search=spelled(one.search, model)) for one in lists]


def labelled(queries: Iterable[GradedQuery]) -> list[LabelledList]:
    """Human labels as lists to learn from, each grade counting once.

    A candidate without a title is no entry of a joined search, and has no grade here.
    """
    lists = []
    for query in queries:
        search = join(query.event, query.tables, Dials())
        gains = query.gains()
        grades = np.array([gains[entry.item.item_id] for entry in search.entries])
        lists.append(LabelledList(search, grades, np.ones(len(grades))))
    return [one for one in lists if len(one.grades)]


def graded(one: LabelledList) -> GradedQuery:
    """A list as the judges take it: the candidates whose grade counts, and no others (a condensed
    list, Sakai, SIGIR 2007, "Alternatives to bpref", section 2.3)."""
    counts = one.weights > 0.0
    rows = [row for row in range(len(counts)) if counts[row]]
    candidates = tuple(one.search.entries[row].item for row in rows)
    event = msgspec.structs.replace(one.search.event, candidates=candidates)
    grades = tuple(float(one.grades[row]) for row in rows)
    return GradedQuery(event, grades, past=tuple(item for item, _ in one.search.history))


def share_of(text: str, salt: str = "") -> float:
    """A query's place in [0, 1), by the hash of its words: the same in every run and machine."""
    words = " ".join(text.casefold().split())
    first = hashlib.sha256(f"{salt}{words}".encode()).digest()[:8]
    return int.from_bytes(first, "big") / 2**64


def split_by_query(
    lists: Sequence[LabelledList], held_out: float, salt: str = ""
) -> tuple[list[LabelledList], list[LabelledList]]:
    """(to learn from, held out): all lists of one query fall on one side."""
    kept: tuple[list[LabelledList], list[LabelledList]] = ([], [])
    for one in lists:
        kept[share_of(one.search.event.user_query, salt) < held_out].append(one)
    return kept
