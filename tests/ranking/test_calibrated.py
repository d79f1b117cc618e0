"""The method "calibrated": a list shares its places among categories as the user's taste does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, catalogue, event, joined
from worker.events import HistoryEntry, Item
from worker.ranking.diversify import diversify
from worker.ranking.diversify.calibrated import ALPHA, Calibrated
from worker.ranking.join import Tables
from worker.ranking.model import Doubles, Integers, Scores
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(1, 12)


def scores_of(relevance: Doubles, categories: Doubles, taste: Doubles | None = None) -> Scores:
    vectors = np.eye(len(relevance), dtype=np.float32)
    return Scores(relevance, relevance, vectors, categories, categories, taste=taste)


def diverged(categories: Doubles, taste: Doubles, order: Integers) -> float:
    """C_KL of the whole list."""
    known = taste > 0.0
    shown = (1.0 - ALPHA) * categories[order].mean(axis=0) + ALPHA * taste
    return float(taste[known] @ np.log(taste[known] / shown[known]))


def added(scores: Scores, order: Integers) -> Doubles:
    """What each item adds to n * C_KL, by showing the list item by item."""
    shown = Calibrated.of(scores, len(order), 1)
    shown.start()
    found = []
    for place, item in enumerate(order.tolist()):
        found.append(shown.redundancy(item, order, 0, place))
        shown.show(item)
    return np.array(found)


def some(seed: int, count: int, kinds: int) -> tuple[Doubles, Doubles]:
    """[count, kinds] P(category | item) with a row of zeros here and there, and a taste."""
    chance = np.random.default_rng(seed)
    categories = chance.dirichlet(np.full(kinds, 0.3), count)
    categories[chance.random(count) < 0.2] = 0.0
    return categories, chance.dirichlet(np.full(kinds, 0.3))


def stocked(seed: int, each: int, kinds: int) -> Scores:
    """A pool with `each` items of each category, which differ in how relevant they are."""
    chance = np.random.default_rng(seed)
    kind = np.repeat(np.arange(kinds), each)
    raw = chance.normal(size=kinds)[kind] + chance.normal(size=each * kinds)
    best_first = np.argsort(-raw)
    relevance = 1.0 / (1.0 + np.exp(-raw[best_first]))
    return scores_of(relevance, np.eye(kinds)[kind[best_first]], chance.dirichlet(np.ones(kinds)))


@given(seed=SEEDS, count=COUNTS, kinds=st.integers(1, 6))
def test_what_items_add_sums_to_the_divergence_of_all_places(
    seed: int, count: int, kinds: int
) -> None:
    categories, taste = some(seed, count, kinds)
    order = np.random.default_rng(seed).permutation(count)
    found = added(scores_of(np.ones(count), categories, taste), order)
    assert found.sum() == pytest.approx(count * diverged(categories, taste, order), abs=1e-9)


@given(seed=SEEDS, count=COUNTS, kinds=st.integers(1, 6))
def test_no_item_adds_more_than_the_largest_divergence_nor_mends_more_than_falls_allows(
    seed: int, count: int, kinds: int
) -> None:
    categories, taste = some(seed, count, kinds)
    found = added(scores_of(np.ones(count), categories, taste), np.arange(count))
    assert (found <= -np.log(ALPHA) + 1e-9).all()
    assert (found >= -(1.0 - ALPHA) / ALPHA).all()


@given(seed=SEEDS, kinds=st.integers(1, 5), depth=st.integers(1, 12))
def test_at_full_dial_a_stocked_pool_gives_a_list_that_diverges_no_more_than_by_relevance(
    seed: int, kinds: int, depth: int
) -> None:
    scores = stocked(seed, 12, kinds)
    assert scores.relevance is not None
    assert scores.taste is not None
    orders = [
        diversify(scores, scores.relevance, "calibrated", dial, depth).order for dial in (0.0, 1.0)
    ]
    relevant, calibrated = (diverged(scores.categories, scores.taste, each) for each in orders)
    assert calibrated <= relevant + 1e-9


@pytest.mark.parametrize(
    ("taste", "shared"),
    [
        ([1.0, 0.0, 0.0], [10, 0, 0]),
        ([0.7, 0.3, 0.0], [7, 3, 0]),
        ([0.3, 0.7, 0.0], [3, 7, 0]),
        ([0.5, 0.3, 0.2], [5, 3, 2]),
        ([0.1, 0.0, 0.9], [1, 0, 9]),
    ],
)
def test_ten_places_are_shared_as_the_taste_is(taste: list[float], shared: list[int]) -> None:
    categories = np.eye(3)[np.repeat([2, 1, 0], 10)]
    relevance = np.full(30, 0.5)
    scores = scores_of(relevance, categories, np.array(taste))
    order = diversify(scores, relevance, "calibrated", 1.0, 10).order
    assert categories[order].sum(axis=0).tolist() == shared


def test_a_taste_that_is_unknown_is_what_the_query_asks_for() -> None:
    categories = np.eye(2)[[0, 0, 0, 0, 0, 0, 1, 1]]
    relevance = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    order = diversify(scores_of(relevance, categories), relevance, "calibrated", 1.0, 4).order
    assert categories[order].sum(axis=0).tolist() == [3.0, 1.0]


def test_an_item_of_which_nothing_is_known_fills_a_place_and_serves_no_taste() -> None:
    categories = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    scores = scores_of(np.full(3, 0.5), categories, np.array([1.0, 0.0]))
    most = -np.log(ALPHA)
    assert added(scores, np.array([0, 1])) == pytest.approx([most, most])
    assert diversify(scores, np.full(3, 0.5), "calibrated", 1.0, 3).order.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("categories", "taste"),
    [
        (np.zeros((4, 0)), None),
        (np.zeros((4, 0)), np.zeros(0)),
        (np.zeros((4, 3)), None),
        (np.zeros((4, 3)), np.array([0.2, 0.8, 0.0])),
        (np.eye(4), np.zeros(4)),
        (np.eye(1)[[0, 0, 0, 0]], np.array([1.0])),
        (np.eye(2)[[0, 0, 0, 0]], np.array([0.0, 1.0])),
    ],
)
@pytest.mark.parametrize("depth", [1, 4, 9])
def test_where_categories_tell_nothing_apart_the_order_is_by_relevance(
    categories: Doubles, taste: Doubles | None, depth: int
) -> None:
    relevance = np.array([0.9, 0.5, 0.5, 0.1])
    scores = scores_of(relevance, categories, taste)
    order = diversify(scores, relevance, "calibrated", 1.0, depth).order.tolist()
    assert order == [0, 1, 2, 3][:depth]


@pytest.mark.parametrize("faint", [5e-324, 1e-200, 1e-13])
def test_a_trace_of_taste_does_no_harm(faint: float) -> None:
    categories = np.eye(3)[[2, 1, 0, 0]]
    relevance = np.full(4, 0.5)
    traced = scores_of(relevance, categories, np.array([1.0, faint, 0.0]))
    found = diversify(traced, relevance, "calibrated", 1.0, 4)
    assert found.order.tolist() == [2, 3, 0, 1]
    assert np.isfinite(found.diversity_gain).all()


def test_users_of_opposite_tastes_are_served_lists_that_follow_them() -> None:
    wares = [
        candidate(f"{kind}{number}", title=f"red {kind}", category=kind)
        for kind in ("shoe", "hat")
        for number in range(10)
    ]
    bought = [Item(item_id=f"old {kind}", title=kind, category=kind) for kind in ("shoe", "hat")]
    tables = Tables(catalogue=catalogue(*bought))
    shown = []
    for likes, knows in (("shoe", "hat"), ("hat", "shoe")):
        history = (
            HistoryEntry(item_id=f"old {likes}", action_name="add_to_cart"),
            HistoryEntry(item_id=f"old {knows}", action_name="click"),
        )
        search = event(wares, user_query="red", history=history, k=8, diversity=1.0)
        (ranked,) = rerank([joined(search, tables, method="calibrated")], Overlap())
        shown.append([item.category for item in ranked.items].count(likes))
    assert shown == [6, 6]
