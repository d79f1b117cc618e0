"""What lists make of a catalogue: by hand, and as laws."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.metrics import (
    catalogue_coverage,
    gini,
    long_tail_share,
    novelty,
    popular_head,
    times_shown,
)

CATALOGUE = "abcdef"
LISTS = st.lists(st.permutations(CATALOGUE), max_size=6)
COUNTS = st.lists(st.integers(0, 50), max_size=12)
POPULARITY = st.dictionaries(st.sampled_from(CATALOGUE), st.integers(0, 9))
DEPTHS = st.integers(1, 6)


@pytest.mark.parametrize(
    ("ranked", "known_by", "people", "k", "smoothing", "expected"),
    [
        ([], {"a": 1}, 2, 10, 1.0, 0.0),
        (["a"], {"a": 2}, 2, 10, 1.0, math.log2(4 / 3)),
        (["a"], {"a": 0}, 14, 10, 1.0, 4.0),
        (["a"], {}, 14, 10, 1.0, 4.0),
        (["a"], {}, 14, 10, 0.5, math.log2(15 / 0.5)),
        (["a"], {"a": 2}, 16, 10, 0.0, 3.0),
        (["a"], {}, 0, 10, 1.0, 1.0),
        (["a", "b"], {"a": 3, "b": 0}, 6, 10, 1.0, (1 + 3) / 2),
        (["a", "b"], {"a": 3, "b": 0}, 6, 1, 1.0, 1.0),
    ],
)
def test_novelty_by_hand(
    ranked: list[str],
    known_by: Mapping[str, int],
    people: int,
    k: int,
    smoothing: float,
    expected: float,
) -> None:
    assert novelty(ranked, known_by, people, k, smoothing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("lists", "catalogue", "k", "expected"),
    [
        ([], "", 10, 0.0),
        ([], "ab", 10, 0.0),
        (["ab"], "", 10, 0.0),
        (["ab", "ac"], "abcd", 10, 3 / 4),
        (["ab", "ac"], "abcd", 1, 1 / 4),
        (["xa"], "ab", 10, 1 / 2),
    ],
)
def test_catalogue_coverage_by_hand(
    lists: list[str], catalogue: str, k: int, expected: float
) -> None:
    assert catalogue_coverage(lists, catalogue, k) == expected


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([], 0.0),
        ([0, 0], 0.0),
        ([3], 0.0),
        ([2, 2, 2], 0.0),
        ([0, 1], 1 / 2),
        ([0, 0, 0, 5], 3 / 4),
        ([1, 2, 3], 2 / 9),
        ([3, 1, 2], 2 / 9),
    ],
)
def test_gini_by_hand(amounts: list[float], expected: float) -> None:
    assert gini(amounts) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("popularity", "share", "expected"),
    [
        ({}, 0.8, ""),
        ({"a": 0, "b": 0}, 0.8, ""),
        ({"a": 8, "b": 2}, 0.8, "a"),
        ({"a": 79, "b": 21}, 0.8, "ab"),
        ({"b": 1, "a": 1, "d": 1, "c": 1}, 0.5, "ab"),
        ({"a": 1, "b": 1, "c": 1}, 1 / 3, "a"),
        ({"a": 3, "b": 0}, 1.0, "a"),
        ({"a": 3, "b": 1}, 0.0, ""),
        ({"a": 55, "b": 45}, 0.55, "a"),  # 0.55 * 100 is a bit more than 55
    ],
)
def test_the_popular_head_by_hand(
    popularity: Mapping[str, float], share: float, expected: str
) -> None:
    assert popular_head(popularity, share) == frozenset(expected)


@pytest.mark.parametrize(
    ("ranked", "head", "k", "expected"),
    [("", "a", 10, 0.0), ("ab", "a", 10, 1 / 2), ("abc", "a", 1, 0.0), ("abc", "", 10, 1.0)],
)
def test_the_long_tail_by_hand(ranked: str, head: str, k: int, expected: float) -> None:
    assert long_tail_share(ranked, head, k) == expected


@given(POPULARITY, LISTS)
def test_novelty_without_smoothing_is_the_surprisal_of_zhou(
    popularity: Mapping[str, int], lists: list[str]
) -> None:
    people = 10
    counts = {item: popularity.get(item, 0) + 1 for item in CATALOGUE}
    for ranked in lists:
        chance = np.array([counts[item] for item in ranked]) / people
        expected = np.mean(-np.log2(chance))
        assert novelty(ranked, counts, people, smoothing=0.0) == pytest.approx(expected)


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0.01, 10))
def test_what_fewer_know_is_newer_and_what_nobody_knows_is_newest(
    some: int, more: int, smoothing: float
) -> None:
    people, known_by = 200, {"few": some, "many": some + more}
    few, many, none = (
        novelty([item], known_by, people, smoothing=smoothing) for item in ("few", "many", "none")
    )
    assert 0.0 <= many <= few <= none


@given(LISTS, DEPTHS)
def test_catalogue_coverage_is_the_union_of_the_tops_and_grows_with_k(
    lists: list[str], k: int
) -> None:
    shown = np.unique(np.array([list(ranked)[:k] for ranked in lists]))
    assert catalogue_coverage(lists, CATALOGUE, k) == len(shown) / len(CATALOGUE)
    assert catalogue_coverage(lists, CATALOGUE, k) <= catalogue_coverage(lists, CATALOGUE, k + 1)


@given(LISTS, DEPTHS)
def test_each_place_is_counted_once(lists: list[str], k: int) -> None:
    assert sum(times_shown(lists, CATALOGUE, k).values()) == k * len(lists)


@given(COUNTS)
def test_gini_is_half_the_relative_mean_difference(amounts: list[int]) -> None:
    values = np.array(amounts, dtype=np.float64)
    if not values.any():
        assert gini(amounts) == 0.0
        return
    differences = np.abs(values[:, np.newaxis] - values)
    assert gini(amounts) == pytest.approx(differences.mean() / (2 * values.mean()))


@given(COUNTS, st.integers(1, 9))
def test_gini_knows_shares_alone_and_grows_with_what_is_never_shown(
    amounts: list[int], times: int
) -> None:
    assert 0.0 <= gini(amounts) < 1.0
    assert gini([times * amount for amount in amounts]) == pytest.approx(gini(amounts))
    assert gini([*amounts, 0]) >= gini(amounts) - 1e-12
    assert gini([times] * len(amounts)) == 0.0


@given(POPULARITY, st.floats(0, 1))
def test_the_head_is_the_smallest_that_holds_its_share(
    popularity: dict[str, int], share: float
) -> None:
    head = popular_head(popularity, share)
    held, total = sum(popularity[item] for item in head), sum(popularity.values())
    tail = popularity.keys() - head
    assert held >= share * total - 1e-9
    assert all(held - popularity[item] < share * total for item in head)
    assert all(popularity[low] <= popularity[high] for low in tail for high in head)
    assert popular_head(dict(reversed(popularity.items())), share) == head


@given(st.permutations(CATALOGUE), st.frozensets(st.sampled_from(CATALOGUE)), DEPTHS)
def test_what_is_not_of_the_tail_is_of_the_head(
    ranked: list[str], head: frozenset[str], k: int
) -> None:
    rest = frozenset(CATALOGUE) - head
    assert long_tail_share(ranked, head, k) + long_tail_share(ranked, rest, k) == pytest.approx(1)
