"""Every method gives the list of its paper's plain form, and of pyversity where it has the method.

Where two lists part, the two items that they part at must gain the same: sums in another order, or
in float32, settle a tie in another way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyversity
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.factories import random_scores
from tests.ranking import textbook
from tests.ranking.textbook import Gain
from worker.ranking.diversify import METHODS, diversify
from worker.ranking.diversify.cover import Cover
from worker.ranking.diversify.greedy import greedy
from worker.ranking.model import Doubles, Scores

SEEDS = st.integers(0, 1_000_000)
WEIGHTS = st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95])
SHAPES = st.sampled_from([(1, 4), (2, 3), (12, 4), (12, 24), (30, 48)])
DEPTHS = st.sampled_from([1, 5, 40])
EQUAL = 1e-6
cases = settings(max_examples=int(os.environ.get("PRISMRANK_TEST_CASES", "100")), deadline=None)
"""A method. The figure of the README is of 10,000 of them: PRISMRANK_TEST_CASES=2000, five methods.
"""


def pool(seed: int, count: int, dimensions: int) -> tuple[Doubles, Doubles]:
    """Unit vectors and their relevance, sorted: some twice, some of nothing, some scores equal."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, dimensions)) + chance.choice([0.0, 1.0])
    vectors[chance.random(count) < 0.2] = vectors[0]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = (vectors / lengths).astype(np.float32)
    vectors[chance.random(count) < 0.05] = 0.0
    decimals = int(chance.integers(0, 4))
    relevance = np.sort(chance.random(count).round(decimals).astype(np.float32))[::-1]
    return vectors.astype(np.float64), relevance.astype(np.float64)


def ours(
    method: str,
    vectors: Doubles,
    utility: Doubles,
    trade_off: float,
    depth: int,
    precision: type[np.floating[Any]] = np.float32,
) -> list[int]:
    depth, nothing = min(depth, len(utility)), np.zeros((len(utility), 0))
    scores = Scores(utility, utility, vectors.astype(precision), nothing, nothing)
    shown = METHODS[method].of(scores, depth, 1)
    if isinstance(shown, Cover):
        trade_off *= shown.largest
    found: list[int] = greedy(utility, shown, np.array([trade_off]), depth, {}).order[0].tolist()
    return found


def assert_the_same(found: list[int], expected: list[int], gain: Gain, tolerance: float) -> None:
    assert len(found) == len(expected)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one != other:
            above = found[:place]
            assert gain(above, one) == pytest.approx(gain(above, other), abs=tolerance)
            return


def standardised(relevance: Doubles) -> Doubles:
    spread = relevance.std()
    return np.asarray((relevance - relevance.mean()) / (spread if spread > 0.0 else 1.0))


@pytest.mark.parametrize(
    ("method", "plain"), [("mmr", textbook.mmr), ("msd", textbook.msd), ("cover", textbook.cover)]
)
@cases
@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS, depth=DEPTHS)
def test_distances_are_weighed_as_in_the_papers_and_by_pyversity(
    method: str,
    plain: Callable[[Doubles, Doubles, float], Gain],
    seed: int,
    shape: tuple[int, int],
    weight: float,
    depth: int,
) -> None:
    vectors, relevance = pool(seed, *shape)
    found = ours(method, vectors, relevance, weight / (1 - weight), depth)
    gain = plain(vectors, relevance, weight)
    tolerance = EQUAL if method != "cover" else 1e-4  # a root of rounding, times the pool
    assert_the_same(found, textbook.greedy(gain, len(relevance), depth), gain, tolerance)
    peer = getattr(pyversity, method)(vectors, relevance, depth, diversity=weight)
    assert_the_same(found, peer.indices.tolist(), gain, tolerance)


@cases
@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS, depth=DEPTHS)
def test_ssd_adds_the_volume_of_the_paper_and_of_pyversity(
    seed: int, shape: tuple[int, int], weight: float, depth: int
) -> None:
    vectors, relevance = pool(seed, *shape)
    utility = standardised(relevance)
    found = ours("ssd", vectors, utility, weight / (1 - weight), depth)
    gain = textbook.ssd(vectors, utility, weight)
    # A residual of nothing is the root of rounding, here and there.
    assert_the_same(found, textbook.greedy(gain, len(relevance), depth), gain, 2e-3)
    if vectors.any(axis=1).all():  # its first item has the best score, whatever its volume
        peer = pyversity.ssd(vectors, relevance, depth, diversity=weight)
        assert_the_same(found, peer.indices.tolist(), gain, 2e-3)


@cases
@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS, depth=DEPTHS)
def test_dpp_is_the_greedy_map_of_the_paper_and_of_pyversity(
    seed: int, shape: tuple[int, int], weight: float, depth: int
) -> None:
    vectors, relevance = pool(seed, *shape)
    quality = np.exp((1 - weight) * standardised(relevance))
    gain = textbook.dpp(vectors, quality)
    spanned = int(np.linalg.matrix_rank(vectors, tol=1e-2))  # beyond, each determinant is nothing
    depth = min(depth, spanned)
    found = ours("dpp", vectors, quality**2, 1.0, depth)
    assert_the_same(found, textbook.greedy(gain, len(quality), depth), gain, 1e-4)
    if vectors.any(axis=1).all():  # pyversity takes every vector to have a length
        peer = pyversity.dpp(vectors, relevance, depth, diversity=weight)
        assert_the_same(found, peer.indices.tolist(), gain, 1e-4)


@pytest.mark.parametrize("method", ["cover", "ssd", "dpp"])
@cases
@given(seed=SEEDS, shape=SHAPES, weight=WEIGHTS, depth=DEPTHS)
def test_what_single_precision_blurs_is_exact_in_double(
    method: str, seed: int, shape: tuple[int, int], weight: float, depth: int
) -> None:
    """The same code over vectors of doubles: roots of what is nearly nothing are right, too."""
    vectors, relevance = pool(seed, *shape)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0.0)
    utility, trade_off = relevance, weight / (1 - weight)
    if method == "cover":
        gain = textbook.cover(vectors, relevance, weight)
    elif method == "ssd":
        utility = standardised(relevance)
        gain = textbook.ssd(vectors, utility, weight)
    else:
        quality = np.exp((1 - weight) * standardised(relevance))
        utility, trade_off, gain = quality**2, 1.0, textbook.dpp(vectors, quality)
        depth = min(depth, int(np.linalg.matrix_rank(vectors, tol=1e-2)))
    found = ours(method, vectors, utility, trade_off, depth, np.float64)
    assert_the_same(found, textbook.greedy(gain, len(relevance), depth), gain, EQUAL)


@cases
@given(seed=SEEDS, count=st.integers(1, 25), kinds=st.integers(1, 6), depth=DEPTHS)
def test_pm2_gives_each_category_its_share_as_in_the_paper(
    seed: int, count: int, kinds: int, depth: int
) -> None:
    chance = np.random.default_rng(seed)
    categories = chance.dirichlet(np.full(kinds, 0.3), count)
    relevance = np.sort(chance.random(count))[::-1].copy()
    depth = min(depth, count)
    scores = Scores(relevance, relevance, np.eye(count, dtype=np.float32), categories, categories)
    shown = METHODS["pm2"].of(scores, depth, 1)
    found = greedy(relevance, shown, np.array([1.0]), depth, {}).order[0].tolist()
    gain = textbook.pm2(categories, relevance)
    assert_the_same(found, textbook.greedy(gain, count, depth), gain, EQUAL)


@cases
@given(
    seed=SEEDS,
    count=st.integers(1, 25),
    kinds=st.integers(0, 6),
    weight=WEIGHTS,
    depth=DEPTHS,
    known=st.booleans(),
)
def test_calibrated_follows_the_taste_as_in_the_paper(
    seed: int, count: int, kinds: int, weight: float, depth: int, known: bool
) -> None:
    chance = np.random.default_rng(seed)
    categories = kinds_of_items(chance, count, kinds)
    relevance = np.sort(chance.random(count).round(int(chance.integers(0, 4))))[::-1].copy()
    taste = np.where(chance.random(kinds) < 0.3, 0.0, chance.random(kinds)) if known else None
    expected = relevance @ categories if taste is None else taste
    depth = min(depth, count)
    vectors = np.eye(count, dtype=np.float32)
    scores = Scores(relevance, relevance, vectors, categories, categories, taste=taste)
    shown = METHODS["calibrated"].of(scores, depth, 1)
    trade_off = np.array([weight / (1 - weight)])
    found = greedy(relevance, shown, trade_off, depth, {}).order[0].tolist()
    gain = textbook.calibrated(categories, expected / (expected.sum() or 1.0), relevance, weight)
    assert_the_same(found, textbook.greedy(gain, count, depth), gain, EQUAL)


def kinds_of_items(chance: np.random.Generator, count: int, kinds: int) -> Doubles:
    """P(category | item): of some items one, of some several, of some none is known."""
    if kinds == 0:
        return np.zeros((count, 0))
    categories = chance.dirichlet(np.full(kinds, 0.5), count)
    named = chance.random(count) < 0.5
    categories[named] = np.eye(kinds)[categories[named].argmax(axis=1)]
    categories[chance.random(count) < 0.1] = 0.0
    return np.asarray(categories)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("field", ["raw", "vectors", "categories"])
def test_a_score_that_is_no_number_is_refused(method: str, field: str) -> None:
    scores = random_scores(5, 6)
    getattr(scores, field)[3] = np.nan
    with pytest.raises(ValueError, match=f"{field} of candidate 3"):
        diversify(scores, scores.raw, method, 0.3, 6)


def lists_of_another_process(methods: list[str], **environment: str) -> str:
    program = (
        "from tests.factories import random_scores\n"
        "from worker.ranking.diversify import diversify\n"
        "scores = random_scores(5, 40)\n"
        f"for method in {methods}:\n"
        "    found = diversify(scores, scores.relevance, method, 0.4, 12, pinned={2: 30})\n"
        "    print(found.order.tolist(), (found.diversity_gain.round(3) + 0.0).tolist())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_compiled_or_not_the_lists_are_the_same() -> None:
    compiled = lists_of_another_process(sorted(METHODS))
    assert compiled.count("\n") == len(METHODS)
    assert compiled == lists_of_another_process(sorted(METHODS), NUMBA_DISABLE_JIT="1")


def test_where_no_machine_code_can_be_kept_a_process_compiles_anew(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    nowhere = lists_of_another_process(["mmr"], XDG_CACHE_HOME=str(tmp_path / "a-file"))
    assert nowhere == lists_of_another_process(["mmr"])
