"""Every method gives the list of its paper's plain form, and of pyversity where it has the method.

Where two lists part, the two items that they part at must gain the same: sums in another order, or
in float32, settle a tie in another way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import pyversity
from hypothesis import given
from hypothesis import strategies as st

from tests.ranking import textbook
from tests.ranking.textbook import Gain
from worker.ranking.diversify import METHODS
from worker.ranking.diversify.greedy import greedy
from worker.ranking.model import Doubles, Scores

SEEDS = st.integers(0, 100_000)
WEIGHTS = st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95])
SHAPES = st.sampled_from([(1, 4), (2, 3), (12, 4), (12, 24), (30, 48)])
EQUAL, EQUAL_FLOATS = 1e-9, 1e-5


def pool(seed: int, count: int, dimensions: int) -> tuple[Doubles, Doubles]:
    """Unit vectors that do not point apart, some of them twice, and their relevance, sorted."""
    chance = np.random.default_rng(seed)
    vectors = np.abs(chance.normal(size=(count, dimensions)))
    vectors[chance.random(count) < 0.2] = vectors[0]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    relevance = np.sort(chance.random(count).round(2).astype(np.float32))[::-1]
    return vectors.astype(np.float64), relevance.astype(np.float64)


def ours(method: str, vectors: Doubles, utility: Doubles, trade_off: float) -> list[int]:
    count = len(utility)
    nothing = np.zeros((count, 0))
    scores = Scores(utility, utility, vectors.astype(np.float32), nothing, nothing)
    shown = METHODS[method](scores, 1)
    found: list[int] = greedy(utility, shown, np.array([trade_off]), count, {}).order[0].tolist()
    return found


def assert_the_same(found: list[int], expected: list[int], gain: Gain, tolerance: float) -> None:
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one != other:
            above = found[:place]
            assert gain(above, one) == pytest.approx(gain(above, other), abs=tolerance)
            return


def standardised(relevance: Doubles) -> Doubles:
    spread = relevance.std()
    return np.asarray((relevance - relevance.mean()) / (spread if spread > 0.0 else 1.0))


@pytest.mark.parametrize(("method", "plain"), [("mmr", textbook.mmr), ("msd", textbook.msd)])
@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS)
def test_distances_are_weighed_as_in_the_papers_and_by_pyversity(
    method: str,
    plain: Callable[[Doubles, Doubles, float], Gain],
    seed: int,
    shape: tuple[int, int],
    weight: float,
) -> None:
    vectors, relevance = pool(seed, *shape)
    found = ours(method, vectors, relevance, weight / (1 - weight))
    gain = plain(vectors, relevance, weight)
    assert_the_same(found, textbook.greedy(gain, *[len(relevance)] * 2), gain, EQUAL)
    peer = getattr(pyversity, method)(vectors, relevance, len(relevance), diversity=weight)
    assert_the_same(found, peer.indices.tolist(), gain, EQUAL_FLOATS)


@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS)
def test_ssd_adds_the_volume_of_the_paper_and_of_pyversity(
    seed: int, shape: tuple[int, int], weight: float
) -> None:
    vectors, relevance = pool(seed, *shape)
    utility = standardised(relevance)
    found = ours("ssd", vectors, utility, weight / (1 - weight))
    gain = textbook.ssd(vectors, utility, weight)
    # A residual of nothing is 1e-8 by least squares, and by a factor: both are rounding's root.
    assert_the_same(found, textbook.greedy(gain, *[len(relevance)] * 2), gain, 1e-6)
    peer = pyversity.ssd(vectors, relevance, len(relevance), diversity=weight)
    assert_the_same(found, peer.indices.tolist(), gain, 1e-3)


@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS)
def test_dpp_is_the_greedy_map_of_the_paper_and_of_pyversity(
    seed: int, shape: tuple[int, int], weight: float
) -> None:
    vectors, relevance = pool(seed, *shape)
    quality = np.exp((1 - weight) * standardised(relevance))
    found = ours("dpp", vectors, quality**2, 1.0)
    gain = textbook.dpp(vectors, quality)
    spanned = np.linalg.matrix_rank(vectors, tol=1e-4)  # beyond, every determinant is nothing
    assert_the_same(found[:spanned], textbook.greedy(gain, len(quality), spanned), gain, 1e-6)
    peer = pyversity.dpp(vectors, relevance, int(spanned), diversity=weight)
    assert_the_same(found[:spanned], peer.indices.tolist(), gain, 1e-4)
