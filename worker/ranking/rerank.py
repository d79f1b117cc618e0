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
from worker.ranking.judge import conclude, first_stage
from worker.ranking.model import Model, Reading, Vector
from worker.ranking.pairs import second_stage
from worker.ranking.spelling import spelled
from worker.ranking.text import texts
from worker.ranking.tokens import pack, unpack


def no_lap(_stage: str) -> None:
    """Nobody times the stages."""


def rerank(
    searches: Sequence[JoinedSearch], model: Model, lap: Callable[[str], None] = no_lap
) -> tuple[RankedList, ...]:
    """One list a search, in their order. `lap` is told when a stage ends: "score", then "rank"."""
    searches = [spelled(search, model) for search in searches]
    readings = read(needed(searches, model), model)
    judged = [first_stage(search, readings, model) for search in searches]
    judged = second_stage(searches, judged, model)
    lap("score")
    lists = tuple(
        answer.rank(search, conclude(search, one, readings, model), model.digest)
        for search, one in zip(searches, judged, strict=True)
    )
    lap("rank")
    return lists


def needed(searches: Sequence[JoinedSearch], model: Model) -> tuple[str, ...]:
    """The texts that the model's encoder must have read before these searches can be judged."""
    return texts(searches, model.template, model.categories, model.category_head)


def read(wanted: Sequence[str], model: Model) -> Mapping[str, Reading]:
    """What the encoder gives for each text: remembered, or through the model in token batches."""
    known = {text: one for text in wanted if (one := model.readings.get(text)) is not None}
    unseen = [text for text in wanted if text not in known]
    batches = pack(unseen, model.tokenize, model.budget)
    fresh = unpack((batch, model.score(batch)) for batch in batches)
    for text, one in zip(unseen, fresh, strict=True):
        known[text] = model.readings[text] = one
    return known


def embed(wanted: Sequence[str], model: Model) -> Mapping[str, Vector]:
    """The vector of every text."""
    return {text: one.vector for text, one in read(wanted, model).items()}


def fall_back(search: JoinedSearch, weak: Model, reason: Reason) -> RankedList:
    """The list of a search that no model could score in time, with `weak` standing in."""
    readings = read(needed((search,), weak), weak)
    scores = conclude(search, first_stage(search, readings, weak), readings, weak)
    return answer.fall_back(search, scores, reason)
