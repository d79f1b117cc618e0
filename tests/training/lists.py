"""Small labelled lists: an item is relevant where it has a word of the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.bundle import Template
from tests.factories import joined, random_search
from training.dataset import LabelledList
from worker.ranking.model import Vector
from worker.ranking.text import item_text

CATEGORIES = ("coats", "hats", "shoes")
QUERIES = ("red shoe", "wool hat", "rain coat")
DIMENSIONS = 32


def labelled_list(seed: int, count: int | None = None, **fields: Any) -> LabelledList:
    """A list of `count` candidates, else of one to six."""
    size = int(np.random.default_rng(seed).integers(1, 7)) if count is None else count
    query = {"query_id": f"q-{seed}", "user_query": QUERIES[seed % len(QUERIES)]}
    search = joined(random_search(seed, size, **{**query, **fields}))
    words = search.event.user_query.split()
    titles = [entry.item.title or "" for entry in search.entries]
    grades = np.array([float(any(word in title for word in words)) for title in titles])
    return LabelledList(search, grades, np.ones(size))


def labelled_lists(count: int, first: int = 0) -> list[LabelledList]:
    """So many lists, each with a seed of its own from `first` on."""
    return [labelled_list(first + index) for index in range(count)]


def vectors_of(
    lists: Sequence[LabelledList], queries: bool = False, width: int = DIMENSIONS
) -> dict[str, Vector]:
    """A unit vector for each item: a direction for each of its words, added up."""
    texts = {item_text(entry.item, Template()) for one in lists for entry in one.search.entries}
    if queries:
        texts |= {query for one in lists if (query := one.search.event.user_query).strip()}
    return {text: _direction(text, width) for text in sorted(texts)}


def _direction(text: str, width: int) -> Vector:
    total = sum(
        np.random.default_rng(sum(map(ord, word))).normal(size=width) for word in text.split()
    )
    vector = np.asarray(total, dtype=np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit
