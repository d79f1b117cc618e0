"""Searches in, ranked lists out: the whole of serving between decoding and encoding.

The worker, `python -m worker rerank`, the HTTP endpoint and training's judge call this function.
Searches that are ranked together share batches and nothing else: each list is the one that its
search would have had alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from worker.events import RankedList, Reason
from worker.ranking import answer
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import judge
from worker.ranking.model import Model, Vector
from worker.ranking.text import texts
from worker.ranking.tokens import pack, unpack


def no_lap(_stage: str) -> None:
    """Nobody times the stages."""


def rerank(
    searches: Sequence[JoinedSearch], model: Model, lap: Callable[[str], None] = no_lap
) -> tuple[RankedList, ...]:
    """One list a search, in their order. `lap` is told when a stage ends: "score", then "rank"."""
    vectors = embed(texts(searches, model.template, model.categories), model)
    lap("score")
    lists = tuple(
        answer.rank(search, judge(search, vectors, model), model.digest) for search in searches
    )
    lap("rank")
    return lists


def embed(wanted: Sequence[str], model: Model) -> Mapping[str, Vector]:
    """The vector of every text: from the model's cache, or through the model, in token batches."""
    known = {text: vector for text in wanted if (vector := model.vectors.get(text)) is not None}
    unseen = [text for text in wanted if text not in known]
    batches = pack(unseen, model.tokenize, model.budget)
    fresh = unpack(((batch, model.score(batch)) for batch in batches), len(unseen))
    for text, vector in zip(unseen, fresh, strict=True):
        known[text] = model.vectors[text] = vector
    return known


def fall_back(search: JoinedSearch, weak: Model, reason: Reason) -> RankedList:
    """The list of a search that no model could score in time, with `weak` standing in."""
    vectors = embed(texts((search,), weak.template, weak.categories), weak)
    return answer.fall_back(search, judge(search, vectors, weak), reason)
