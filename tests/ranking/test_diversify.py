"""The dial and the methods: what they promise, on any candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import random_scores
from worker.ranking.diversify import METHODS, diversify
from worker.ranking.diversify.dial import discounts
from worker.ranking.model import Doubles, Scores

SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(1, 40)
DIALS = st.floats(0, 1)
every_method = pytest.mark.parametrize("method", sorted(METHODS))
OF_THE_POOL = {
    "cover",
    "pm2",
    "calibrated",
}  # they hold even a first item against all that there is
from_the_top = pytest.mark.parametrize("method", sorted(METHODS.keys() - OF_THE_POOL))


def near_copies() -> Scores:
    """A, a near copy of it, and something else that is a little less relevant."""
    vectors = np.array([[1, 0], [0.999, 0.0447], [0, 1]], dtype=np.float32)
    raw = np.array([2.0, 1.8, 1.6])
    categories = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float64)
    return Scores(raw, 1 / (1 + np.exp(-raw)), vectors, categories, np.zeros((3, 0)))


def expected_gain(order: np.ndarray, utility: Doubles) -> float:
    return float(utility[order] @ discounts(len(order)))


def redundancy_of(scores: Scores, method: str, order: np.ndarray) -> Doubles:
    """What each place repeats, by showing the list to the method item by item."""
    shown = METHODS[method].of(scores, len(order), 1)
    shown.start()
    found = []
    for place, item in enumerate(order):
        found.append(shown.redundancy(item, order, 0, place))
        shown.show(item)
    return np.array(found)


@from_the_top
@pytest.mark.parametrize(("dial", "expected"), [(0.0, [0, 1, 2]), (1.0, [0, 2, 1])])
def test_more_diversity_moves_the_near_copy_down(
    method: str, dial: float, expected: list[int]
) -> None:
    scores = near_copies()
    assert scores.relevance is not None
    assert diversify(scores, scores.relevance, method, dial, 3).order.tolist() == expected


@every_method
@given(seed=SEEDS, count=COUNTS, dial=DIALS, depth=st.integers(1, 50))
def test_a_list_is_a_permutation_cut_at_its_depth(
    method: str, seed: int, count: int, dial: float, depth: int
) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    order = diversify(scores, scores.relevance, method, dial, depth).order.tolist()
    assert len(order) == len(set(order)) == min(count, depth)
    assert set(order) <= set(range(count))


@every_method
@given(seed=SEEDS, count=COUNTS)
def test_a_dial_of_zero_is_the_order_by_relevance(method: str, seed: int, count: int) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    assert diversify(scores, scores.relevance, method, 0.0, count).order.tolist() == list(
        range(count)
    )


@from_the_top
@given(seed=SEEDS, count=COUNTS, dial=DIALS)
def test_the_most_relevant_item_stays_on_top(
    method: str, seed: int, count: int, dial: float
) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    assert diversify(scores, scores.relevance, method, dial, count).order[0] == 0


@every_method
@given(seed=SEEDS, count=COUNTS, dials=st.tuples(DIALS, DIALS), depth=st.integers(1, 12))
def test_more_of_the_dial_never_yields_less_diversity(
    method: str, seed: int, count: int, dials: tuple[float, float], depth: int
) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    less, more = sorted(dials)
    diversity = [
        float(
            (1 - redundancy_of(scores, method, order := diversified.order)) @ discounts(len(order))
        )
        for dial in (less, more)
        for diversified in [diversify(scores, scores.relevance, method, dial, depth)]
    ]
    assert diversity[1] >= diversity[0] - 1e-9


@every_method
@given(seed=SEEDS, count=COUNTS, dial=DIALS, depth=st.integers(1, 12))
def test_the_dial_gives_up_no_more_than_its_share_of_the_expected_gain(
    method: str, seed: int, count: int, dial: float, depth: int
) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    gain_at = {
        d: expected_gain(
            diversify(scores, scores.relevance, method, d, depth).order, scores.relevance
        )
        for d in (0.0, dial, 1.0)
    }
    assert gain_at[dial] >= gain_at[0.0] - dial * (gain_at[0.0] - gain_at[1.0]) - 1e-9


@every_method
@given(seed=SEEDS, dial=DIALS, page=st.integers(1, 9))
def test_pages_are_windows_on_one_order(method: str, seed: int, dial: float, page: int) -> None:
    scores = random_scores(seed, 30)
    assert scores.relevance is not None
    first = diversify(scores, scores.relevance, method, dial, page).order.tolist()
    two = diversify(scores, scores.relevance, method, dial, page, places=2 * page).order.tolist()
    assert two[:page] == first


@every_method
@given(seed=SEEDS, dial=DIALS, place=st.integers(0, 9), item=st.integers(0, 9))
def test_a_pin_holds_at_every_dial(
    method: str, seed: int, dial: float, place: int, item: int
) -> None:
    scores = random_scores(seed, 10)
    assert scores.relevance is not None
    pinned = {place: item}
    order = diversify(scores, scores.relevance, method, dial, 10, pinned=pinned).order.tolist()
    assert order[place] == item
    assert sorted(order) == list(range(10))


@every_method
@given(seed=SEEDS, dial=DIALS, place=st.integers(4, 9), item=st.integers(0, 9))
def test_what_is_pinned_to_a_later_page_is_on_no_earlier_one(
    method: str, seed: int, dial: float, place: int, item: int
) -> None:
    scores = random_scores(seed, 10)
    assert scores.relevance is not None
    pinned = {place: item}
    first = diversify(scores, scores.relevance, method, dial, 4, pinned=pinned).order.tolist()
    assert item not in first
    both = diversify(scores, scores.relevance, method, dial, 4, places=10, pinned=pinned)
    assert both.order.tolist()[:4] == first
    assert both.order[place] == item


@every_method
@given(seed=SEEDS, count=COUNTS)
def test_gains_add_up_to_what_the_greedy_maximised(method: str, seed: int, count: int) -> None:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    found = diversify(scores, scores.relevance, method, 0.5, count)
    assert np.allclose(found.relevance_gain, scores.relevance[found.order])
    if method not in {"msd", "calibrated"}:  # theirs may be below 0
        assert (found.diversity_gain <= 1e-6).all()
    if method not in OF_THE_POOL:
        assert found.diversity_gain[0] == pytest.approx(0.0, abs=1e-6)


def test_coverage_shows_every_known_category_before_it_repeats_one() -> None:
    scores = random_scores(3, 12)
    order = diversify(scores, np.full(12, 0.5), "coverage", 1.0, 12).order
    kinds = scores.categories[order].argmax(axis=1).tolist()
    assert len(set(kinds[:3])) == len(set(kinds))


def test_without_categories_coverage_is_the_order_by_relevance() -> None:
    scores = random_scores(3, 12)
    bare = Scores(scores.raw, scores.relevance, scores.vectors, np.zeros((12, 0)), scores.brands)
    assert scores.relevance is not None
    order = diversify(bare, scores.relevance, "coverage", 1.0, 12).order.tolist()
    assert order == list(range(12))


@every_method
def test_no_candidates_give_an_empty_list(method: str) -> None:
    scores = random_scores(1, 0)
    assert diversify(scores, np.zeros(0), method, 0.5, 0).order.tolist() == []
