"""Hard negatives: the nearest that no list of the query has shown, and none that is too near."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import Template
from tests.factories import WORDS, candidate, event, joined
from tests.training.lists import vectors_of
from tests.training.tuned import SMALL, silent
from training.dataset import LabelledList
from training.fine_tune import fine_tune
from training.negatives import NEARNESS, mined, with_negatives
from training.recipe import Recipe
from worker.ranking.model import Vector

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30)


def one(query: str, grades: Mapping[str, float], weight: float = 1.0) -> LabelledList:
    """Items by their titles, which are their ids."""
    items = [candidate(title, title=title, score=3.0, features={"f": 1.0}) for title in grades]
    values = np.array(list(grades.values()))
    return LabelledList(
        joined(event(items, user_query=query)), values, np.full(len(values), weight)
    )


def at(*degrees: float) -> list[Vector]:
    """Unit vectors of the plane."""
    turned = np.radians(degrees)
    return list(np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32))


NAMES = ("boots", "caps", "good boot", "bad boot", "near boot", "far boot", "cap", "copy")
VECTORS = dict(zip(NAMES, at(0, 90, 20, 60, 30, 50, 85, 21), strict=True))
LISTS = [
    one("boots", {"good boot": 1.0, "bad boot": 0.0}, weight=0.5),
    one("BOOTS ", {"near boot": 0.0}),
    one("caps", {"cap": 1.0, "far boot": 0.0, "copy": 0.0}),
]


def titles(one: LabelledList) -> list[str]:
    return [entry.item.title or "" for entry in one.search.entries]


def test_a_list_is_given_the_nearest_that_none_of_its_query_has_shown() -> None:
    found = with_negatives(LISTS, LISTS, VECTORS, Template(), 2)
    boots, again, caps = found
    # "copy" is nearer than 95 % of "good boot"; "near boot" was shown for the same words
    assert titles(boots) == ["good boot", "bad boot", "far boot", "cap"]
    assert again is LISTS[1]  # nothing in it is relevant
    assert titles(caps)[:3] == titles(LISTS[2])
    assert titles(caps)[3:] == ["bad boot", "near boot"]


def test_they_have_grade_0_and_weigh_together_as_one_candidate() -> None:
    boots = with_negatives(LISTS, LISTS, VECTORS, Template(), 2)[0]
    assert boots.grades.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert boots.weights.tolist() == [0.5, 0.5, 0.25, 0.25]
    assert [entry.engine_rank for entry in boots.search.entries] == [1, 2, 3, 4]
    added = boots.search.entries[-1].item
    assert (added.score, added.features) == (None, {})


def test_none_asked_for_is_none_and_a_query_without_a_vector_has_none() -> None:
    assert with_negatives(LISTS, LISTS, VECTORS, Template(), 0) is LISTS
    without = {name: vector for name, vector in VECTORS.items() if name != "boots"}
    assert with_negatives(LISTS, LISTS, without, Template(), 2)[0] is LISTS[0]
    with pytest.raises(KeyError, match="good boot"):
        with_negatives(LISTS, LISTS, {}, Template(), 2)


def test_what_an_older_list_has_shown_is_no_negative_though_it_is_not_learned_from() -> None:
    (boots,) = with_negatives(LISTS[:1], LISTS, VECTORS, Template(), 9)
    assert titles(boots) == ["good boot", "bad boot", "far boot", "cap"]
    (alone,) = with_negatives(LISTS[:1], LISTS[::2], VECTORS, Template(), 9)
    assert "near boot" not in titles(alone), "nor is it known"


@given(COSINES, st.sets(st.integers(0, 29)), st.floats(-1, 1), st.integers(1, 5))
def test_mining_is_a_plain_search(
    cosines: list[float], judged: set[int], positive: float, count: int
) -> None:
    values = np.array(cosines, dtype=np.float32)
    shown = frozenset(row for row in judged if row < len(values))
    plain = [
        row
        for row in sorted(range(len(values)), key=lambda row: -values[row])
        if row not in shown and positive > 0 and values[row] < NEARNESS * positive
    ]
    assert mined(values, shown, positive, count).tolist() == plain[:count]


def test_what_is_mined_is_learned_from(base: Path, tmp_path: Path) -> None:
    lists = [
        one(first, {f"{first} {second}": 1.0, second: 0.0})
        for first, second in pairwise((*WORDS, *WORDS[::2]))
    ]
    vectors = vectors_of(lists, queries=True)

    def losses(name: str, **augment: int) -> object:
        recipe = msgspec.convert({**SMALL, "max_steps": 4, "augment": augment}, Recipe)
        out = tmp_path / name
        learn = with_negatives(lists, lists, vectors, Template(), recipe.augment.hard_negatives)
        return fine_tune(recipe, base, learn, [], vectors, (), out, silent).losses

    assert losses("none", hard_negatives=0) == losses("plain")
    assert losses("some", hard_negatives=2) != losses("plain")


def test_a_list_keeps_all_else() -> None:
    search = with_negatives(LISTS, LISTS, VECTORS, Template(), 1)[0].search
    was = LISTS[0].search
    assert search.event == was.event
    assert search.entries[:2] == was.entries
    assert msgspec.json.encode(search.event) == msgspec.json.encode(was.event)
