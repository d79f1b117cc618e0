"""Hard negatives: what the encoder finds near a query, and no list of it has shown.

The nearest items teach most, and may well be relevant and only unseen: of the best that a retriever
found and nobody had labelled, 7 in 10 were (Qu et al., NAACL 2021, "RocketQA", section 1). So an
item counts only where its cosine is below 95 % of the positives' (TopK-PercPos of Moreira et al.
2024, "NV-Retriever"), and all that are mined for a list weigh together as much as one of its own
candidates. They are mined once, by the encoder, which does not learn: what Xiong et al. 2021,
"ANCE", renew as theirs does stays as it is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from export.bundle import Template
from training.dataset import LabelledList
from training.judgments import RELEVANT
from worker.events import Candidate, Item
from worker.ranking.join import Entry
from worker.ranking.model import Floats, Integers, Vector
from worker.ranking.text import item_text, query_text

NEARNESS: Final = 0.95  # of the positives' cosine: what is nearer may be a positive itself


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All n items of the lists, one of each text."""

    items: tuple[Candidate, ...]
    vectors: Floats  # [n, d]
    judged: Mapping[str, frozenset[int]]  # a query's words -> rows of what its lists have shown


def with_negatives(
    lists: Sequence[LabelledList],
    known: Sequence[LabelledList],
    vectors: Mapping[str, Vector],
    template: Template,
    count: int,
) -> Sequence[LabelledList]:
    """The lists, each with at most `count` items of others behind its own, of grade 0.

    The items are those of all that is `known`, and so is what a query's lists have shown, though
    not all of it is learned. `vectors` are the encoder's by rendered text. A list without a query's
    vector, or of which nothing is relevant and near, stays as it is. Raises KeyError for an item
    without a vector.
    """
    if count == 0:
        return lists
    catalogue = _catalogue(known, vectors, template)
    return [_harder(one, catalogue, vectors, template, count) for one in lists]


def _catalogue(
    lists: Sequence[LabelledList], vectors: Mapping[str, Vector], template: Template
) -> Catalogue:
    row_of: dict[str, int] = {}  # by text
    of_id: dict[str, set[int]] = defaultdict(set)
    items: list[Candidate] = []
    for one in lists:
        for entry in one.search.entries:
            text = item_text(entry.item, template)
            if text not in row_of:
                row_of[text] = len(items)
                items.append(bare(entry.item))
            of_id[entry.item.item_id].add(row_of[text])
    judged: dict[str, frozenset[int]] = {}
    for one in lists:
        shown = (of_id[entry.item.item_id] for entry in one.search.entries)
        judged[_words(one)] = judged.get(_words(one), frozenset()).union(*shown)
    return Catalogue(tuple(items), np.stack([vectors[text] for text in row_of]), judged)


def _harder(
    one: LabelledList,
    catalogue: Catalogue,
    vectors: Mapping[str, Vector],
    template: Template,
    count: int,
) -> LabelledList:
    asked = vectors.get(query_text(one.search, template) or "")
    relevant = (one.grades >= RELEVANT) & (one.weights > 0.0)
    if asked is None or not relevant.any():
        return one
    own = np.array(
        [vectors[item_text(entry.item, template)] @ asked for entry in one.search.entries]
    )
    cosine = catalogue.vectors @ asked
    rows = mined(cosine, catalogue.judged[_words(one)], float(own[relevant].mean()), count)
    first = len(own) + 1
    added = (Entry(catalogue.items[row], first + place) for place, row in enumerate(rows.tolist()))
    counted = float(one.weights[one.weights > 0.0].mean())
    return LabelledList(
        replace(one.search, entries=(*one.search.entries, *added)),
        np.concatenate([one.grades, np.zeros(len(rows))]),
        np.concatenate([one.weights, np.full(len(rows), counted / count)]),
    )


def mined(cosine: Floats, judged: frozenset[int], positive: float, count: int) -> Integers:
    """The nearest first, at most `count`, of what is not judged and not too near: of cosines [n].

    `positive` is the mean cosine of the list's relevant items; where it is not above 0 no share of
    it means anything, and nothing is mined.
    """
    allowed = (cosine < NEARNESS * positive) & (positive > 0.0)
    allowed[list(judged)] = False
    rows = np.flatnonzero(allowed)
    return rows[np.argsort(-cosine[rows], kind="stable")[:count]]


def bare(item: Candidate) -> Candidate:
    """The item, without what it was to the query that it was proposed for."""
    return Candidate(**{name: getattr(item, name) for name in Item.__struct_fields__})


def _words(one: LabelledList) -> str:
    return " ".join(one.search.event.user_query.casefold().split())
