"""The measures against hand-computed values, the field's own tools, and their laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ir_measures
import numpy as np
import pytest
import sklearn.metrics  # type: ignore[import-untyped]  # ships no types
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.metrics import (
    alpha_ndcg,
    average_precision,
    err,
    err_ia,
    f1,
    ild,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
    roc_auc,
    s_recall,
)
from worker.ranking.metrics.alpha_ndcg import greedy_ideal, novelty_gains

A, B, AB, NONE = frozenset("a"), frozenset("b"), frozenset("ab"), frozenset[str]()
SECOND, THIRD = 1 / math.log2(3), 1 / math.log2(4)

Subtopics = frozenset[str]
GAINS = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), max_size=15)
HITS = st.lists(st.booleans(), min_size=1, max_size=15)
ITEMS = st.lists(st.frozensets(st.sampled_from("abcd")), max_size=12)


@pytest.mark.parametrize(
    ("gains", "ideal", "k", "expected"),
    [
        ([], None, 10, 0.0),
        ([0, 0], None, 10, 0.0),
        ([], [1], 10, 0.0),
        ([1], None, 10, 1.0),
        ([0, 1], None, 10, SECOND),
        ([1, 2], None, 10, (1 + 2 * SECOND) / (2 + SECOND)),
        ([1, 0, 1], None, 10, (1 + THIRD) / (1 + SECOND)),
        ([0, 1], None, 1, 0.0),
        ([1, 0], [0, 0, 3, 1], 2, 1 / (3 + SECOND)),
    ],
)
def test_ndcg_by_hand(
    gains: list[float], ideal: list[float] | None, k: int, expected: float
) -> None:
    assert ndcg(gains, ideal, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ranked", "pool", "k", "alpha", "expected"),
    [
        ([], [], 10, 0.5, 0.0),
        ([NONE], [NONE], 10, 0.5, 0.0),
        ([], [A], 10, 0.5, 0.0),
        ([NONE, A], [NONE, A], 10, 0.5, SECOND),
        ([A, A], [A, A], 10, 0.5, 1.0),
        ([A, A], [A, B, A], 2, 0.5, (1 + 0.5 * SECOND) / (1 + SECOND)),
        ([A, A], [A, B, A], 2, 1.0, 1 / (1 + SECOND)),
        ([A, A], [A, B, A], 2, 0.0, 1.0),
        ([A, AB], [A, AB], 10, 0.5, (1 + 1.5 * SECOND) / (2 + 0.5 * SECOND)),
    ],
)
def test_alpha_ndcg_by_hand(
    ranked: list[Subtopics], pool: list[Subtopics], k: int, alpha: float, expected: float
) -> None:
    assert alpha_ndcg(ranked, pool, k, alpha) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([], 0.0),
        ([[1, 0]], 0.0),
        ([[1, 0], [0, 1]], 1.0),
        ([[1, 0], [-1, 0]], 2.0),
        ([[1, 0], [0.6, 0.8]], 0.4),
        ([[1, 0], [1, 0], [0, 1]], 2 / 3),
    ],
)
def test_ild_by_hand(vectors: list[list[float]], expected: float) -> None:
    assert ild(vectors) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ranked", "pool", "k", "expected"),
    [
        ([], [], 10, 0.0),
        ([NONE], [NONE], 10, 0.0),
        ([A, A, B], [A, B], 2, 0.5),
        ([AB], [A, B], 10, 1.0),
        ([NONE, B], [A, B, NONE, frozenset("cd")], 10, 0.25),
    ],
)
def test_subtopics_by_hand(
    ranked: list[Subtopics], pool: list[Subtopics], k: int, expected: float
) -> None:
    assert s_recall(ranked, pool, k) == expected


@pytest.mark.parametrize(
    ("gains", "levels", "expected"),
    [
        ([], 4, 0.0),
        ([0.0, 0.0], 4, 0.0),
        ([1.0], 4, 15 / 16),
        ([0.75, 0.5, 1.0], 4, 7 / 16 + 9 / 16 * (3 / 16 / 2 + 13 / 16 * 15 / 16 / 3)),
        ([1.0, 1.0], 1, 1 / 2 + 1 / 2 * 1 / 2 / 2),
    ],
)
def test_err_by_hand(gains: list[float], levels: int, expected: float) -> None:
    assert err(gains, levels=levels) == pytest.approx(expected)


@given(HITS, st.integers(0, 4), st.integers(1, 12))
def test_what_stands_where_is_measured_as_by_trec_eval(
    relevant: list[bool], below: int, k: int
) -> None:
    count, total = len(relevant), sum(relevant) + below
    judged = relevant + [True] * below  # relevant, and not in the list at all
    qrels = [ir_measures.Qrel("q", _name(rank), int(hit)) for rank, hit in enumerate(judged)]
    measures = [ir_measures.P @ k, ir_measures.R @ k, ir_measures.AP @ k, ir_measures.RR @ k]
    expected = ir_measures.calc_aggregate(measures, qrels, _run(count))
    ours = [
        precision(relevant, k),
        recall(relevant, total, k),
        average_precision(relevant, total, k),
        reciprocal_rank(relevant, k),
    ]
    assert ours == pytest.approx([expected[each] for each in measures], abs=1e-6)


@given(HITS, st.data())
def test_f1_and_the_area_under_roc_are_those_of_scikit_learn(
    relevant: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(relevant)))
    total, count, places = sum(relevant), len(relevant), np.arange(len(relevant))
    if total:
        expected = sklearn.metrics.f1_score(relevant, places < k)
        assert f1(relevant, total, k) == pytest.approx(expected)
    if 0 < total < count:
        expected = sklearn.metrics.roc_auc_score(relevant, -np.minimum(places, k))
        assert roc_auc(relevant[:k], total, count) == pytest.approx(expected)
        assert roc_auc(relevant) == roc_auc(relevant, total, count)
    else:
        assert math.isnan(roc_auc(relevant[:k], total, count))


@given(
    st.lists(st.frozensets(st.sampled_from("abcd")), min_size=1, max_size=12),
    st.sampled_from([5, 10, 20]),  # the depths that ndeval reports
)
def test_subtopics_are_measured_as_by_ndeval(items: list[Subtopics], k: int) -> None:
    qrels = [
        ir_measures.Qrel("q", _name(rank), 1, subtopic)
        for rank, subtopics in enumerate(items)
        for subtopic in subtopics
    ]
    measures = [ir_measures.ERR_IA @ k, ir_measures.StRecall @ k]
    if not qrels:
        assert err_ia(items, items, k) == s_recall(items, items, k) == 0.0
        return
    expected = ir_measures.calc_aggregate(measures, qrels, _run(len(items)))
    # ndeval's is over that of a list in which every item is of every subtopic.
    most = sum(0.5**rank / rank for rank in range(1, k + 1))
    assert err_ia(items, items, k) / most == pytest.approx(expected[measures[0]], abs=1e-6)
    assert s_recall(items, items, k) == pytest.approx(expected[measures[1]], abs=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=15), st.integers(1, 12))
def test_ndcg_is_that_of_trec_eval(gains: list[int], k: int) -> None:
    qrels = [ir_measures.Qrel("q", _name(rank), gain) for rank, gain in enumerate(gains)]
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ k], qrels, _run(len(gains)))
    assert ndcg(gains, k=k) == pytest.approx(expected[ir_measures.nDCG @ k], abs=1e-6)


@given(st.lists(st.frozensets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=12))
def test_alpha_ndcg_is_that_of_ndeval(items: list[Subtopics]) -> None:
    measure = ir_measures.alpha_nDCG(alpha=0.5) @ 10
    qrels = [
        ir_measures.Qrel("q", _name(rank), 1, subtopic)
        for rank, subtopics in enumerate(items)
        for subtopic in subtopics
    ]
    expected = ir_measures.calc_aggregate([measure], qrels, _run(len(items)))
    backwards = items[::-1]  # where ndeval's greedy ideal has a tie, the last document goes first
    assert alpha_ndcg(items, backwards) == pytest.approx(min(1.0, expected[measure]), abs=1e-6)


@given(GAINS)
def test_ndcg_lies_in_0_to_1_and_is_1_for_the_ideal_order(gains: list[float]) -> None:
    assert 0.0 <= ndcg(gains) <= 1.0
    assert ndcg(sorted(gains, reverse=True)) == (1.0 if any(gains) else 0.0)


@given(ITEMS, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_alpha_ndcg_lies_in_0_to_1_and_is_1_for_the_greedy_ideal(
    pool: list[Subtopics], alpha: float
) -> None:
    assert 0.0 <= alpha_ndcg(pool[::-1], pool, alpha=alpha) <= 1.0
    ideal = greedy_ideal(pool, 10, alpha)
    assert alpha_ndcg(ideal, pool, alpha=alpha) == (1.0 if any(pool) else 0.0)


@given(ITEMS)
def test_without_novelty_alpha_ndcg_is_ndcg_of_the_subtopic_counts(items: list[Subtopics]) -> None:
    assert novelty_gains(items, alpha=0.0) == [len(subtopics) for subtopics in items]
    assert alpha_ndcg(items, items, alpha=0.0) == pytest.approx(ndcg([len(s) for s in items]))


@given(ITEMS, st.integers(1, 12))
def test_a_longer_list_covers_no_less(items: list[Subtopics], k: int) -> None:
    assert s_recall(items, items, k) <= s_recall(items, items, k + 1)
    assert s_recall(items, items, len(items)) == (1.0 if any(items) else 0.0)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_ild_is_the_mean_over_the_pairs_and_knows_no_order(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    above = np.triu_indices(count, k=1)
    assert ild(vectors) == pytest.approx((1.0 - vectors @ vectors.T)[above].mean())
    assert ild(vectors[::-1]) == pytest.approx(ild(vectors))


def _run(count: int) -> Sequence[ir_measures.ScoredDoc]:
    """A list in which each document stands at the rank that it is named for."""
    return [ir_measures.ScoredDoc("q", _name(rank), float(-rank)) for rank in range(count)]


def _name(rank: int) -> str:
    return f"{rank:02}"
