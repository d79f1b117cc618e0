"""Impression lists as columns, one row a place that was shown: what the estimators count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.impressions import ImpressionList
from worker.events import RankedList
from worker.ranking.model import Doubles, Integers

Booleans: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """n impressions of `pairs.max() + 1` pairs of query and item; each array is [n].

    `ups` and `downs` say whether exploration could have exchanged the item with the one above and
    below its base place.
    """

    lists: Integers  # which list, counted from 0
    pairs: Integers  # which (query, item), counted from 0
    places: Integers  # 1 is the first
    bases: Integers  # the place before exploration
    probabilities: Doubles  # of standing at `places` given `bases`
    ups: Booleans
    downs: Booleans
    grades: Doubles  # in [0, 1]
    clicks: Doubles  # 0 or 1
    relevance: Doubles  # as the list claimed it; NaN where it claimed none

    def __len__(self) -> int:
        return len(self.lists)


def words(query: str) -> str:
    """A query without its case and spacing: what makes two searches ask the same."""
    return " ".join(query.casefold().split())


def columns(lists: Sequence[ImpressionList]) -> tuple[Columns, tuple[tuple[str, str], ...]]:
    """The columns of `lists`, and what each number in `pairs` stands for: (words, item_id)."""
    numbers: dict[tuple[str, str], int] = {}
    rows: list[tuple[float, ...]] = []
    for number, one in enumerate(lists):
        query, swaps = words(one.query), _swaps(one.ranked)
        for shown in one.shown:
            item_id = shown.item.item_id
            pair = numbers.setdefault((query, item_id), len(numbers))
            relevance = np.nan if shown.relevance is None else shown.relevance
            outcome = (shown.shown_probability, shown.grade, shown.clicked, relevance)
            rows.append((number, pair, shown.position, *swaps[item_id], *outcome))
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=10 * len(rows))
    lists_, pairs, places, bases, ups, downs, *outcomes = flat.reshape(-1, 10).T
    probabilities, grades, clicks, relevance_ = (np.ascontiguousarray(each) for each in outcomes)
    return Columns(
        lists=lists_.astype(np.int64),
        pairs=pairs.astype(np.int64),
        places=places.astype(np.int64),
        bases=bases.astype(np.int64),
        probabilities=probabilities,
        ups=ups > 0,
        downs=downs > 0,
        grades=grades,
        clicks=clicks,
        relevance=relevance_,
    ), tuple(numbers)


def _swaps(ranked: RankedList) -> dict[str, tuple[int, bool, bool]]:
    """item_id -> (base place, whether it could have been exchanged upwards, and downwards).

    What is certain to stand where it stands was never up for a swap, nor was what hung on the long
    tail's lot; two neighbours that both were could have been exchanged with each other.
    """
    free = {
        item.base_rank
        for item in ranked.items
        if item.shown_probability < 1.0 and item.item_id not in ranked.tail_items
    }
    return {
        item.item_id: (
            item.base_rank,
            item.base_rank in free and item.base_rank - 1 in free,
            item.base_rank in free and item.base_rank + 1 in free,
        )
        for item in ranked.items
    }
