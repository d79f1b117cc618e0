"""The bet: it may be looked at after every observation, and is seldom wrong for all that."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.model import Doubles
from worker.scoring.sequential import EPOCH, STAKES, Bet

ALPHA, RUNS, LOOKS = 0.05, 400, 1_000
Draw = Callable[[np.random.Generator], Doubles]


def clicks(chance: np.random.Generator, ours: float = 0.3, theirs: float = 0.3) -> Doubles:
    """Who was clicked less: 1, 0 or -1."""
    drawn = (chance.random(LOOKS) < theirs).astype(float) - (chance.random(LOOKS) < ours)
    return np.asarray(drawn)


def times(chance: np.random.Generator, factor: float = 1.0) -> Doubles:
    """Logarithms of ratios of two noisy times, heavy in both tails."""
    return np.asarray(math.log(factor) + 0.4 * chance.standard_t(3, size=LOOKS))


def rare(chance: np.random.Generator, share: float = 0.0) -> Doubles:
    """Seldom much above the mean, else a little below it."""
    drawn = (chance.random(LOOKS) < 0.02).astype(float) - 0.02 + share
    return np.asarray(drawn)


def first_win(values: Doubles, most: float, bound: float) -> int | None:
    """After how many observations the bet is won, looked at after each."""
    bet = Bet(most, -bound, bound)
    for count, value in enumerate(values.tolist(), start=1):
        bet.see(value)
        if bet.won(ALPHA):
            return count
    return None


NOTHING: list[tuple[str, Draw, float]] = [
    ("clicks", clicks, 1.0),
    ("times", times, 2.8),
    ("rare losses", rare, 1.0),
]


@pytest.mark.parametrize(("draw", "bound"), [n[1:] for n in NOTHING], ids=[n[0] for n in NOTHING])
def test_where_nothing_differs_peeking_for_ever_seldom_sees_a_difference(
    draw: Draw, bound: float
) -> None:
    wins = [first_win(draw(np.random.default_rng(seed)), 0.0, bound) for seed in range(RUNS)]
    assert sum(win is not None for win in wins) <= ALPHA * RUNS


def test_a_test_of_one_look_would_see_one_by_peeking() -> None:
    """What the bet is for: 1.64 standard errors, looked at each time, are soon passed by chance."""
    alarms = 0
    for seed in range(RUNS):
        values, counts = clicks(np.random.default_rng(seed)), np.arange(1, LOOKS + 1)
        means = values.cumsum() / counts
        spread = np.sqrt((values**2).cumsum() / counts - means**2) / np.sqrt(counts)
        alarms += bool((means > 1.64 * spread)[50:].any())
    assert alarms > 0.2 * RUNS


DIFFERENCES: list[tuple[str, Draw, float, int]] = [
    ("a third of the clicks lost", lambda chance: clicks(chance, ours=0.2), 1.0, 600),
    ("2.4 times as slow", lambda chance: times(chance, 2.4), 2.8, 60),
    ("one in five fails", lambda chance: rare(chance, 0.2), 1.0, 200),
]


@pytest.mark.parametrize(
    ("draw", "bound", "soon"), [d[1:] for d in DIFFERENCES], ids=[d[0] for d in DIFFERENCES]
)
def test_a_true_difference_stops_it_soon(draw: Draw, bound: float, soon: int) -> None:
    wins = [first_win(draw(np.random.default_rng(seed)), 0.0, bound) for seed in range(100)]
    counts = sorted(win if win is not None else LOOKS + 1 for win in wins)
    assert counts[50] <= soon
    assert sum(count <= LOOKS for count in counts) >= 95


def test_what_is_better_never_stops_it() -> None:
    draws = [clicks(np.random.default_rng(seed), ours=0.35) for seed in range(200)]
    assert all(first_win(values, 0.0, 1.0) is None for values in draws)


@given(
    st.lists(st.floats(-2.0, 5.0), max_size=30),
    st.floats(-0.9, 2.9),
    st.sampled_from([0.5, 0.05, 0.01]),
)
def test_the_capital_is_the_mean_of_plain_products(
    values: list[float], most: float, alpha: float
) -> None:
    bet, low, high = Bet(most, -1.0, 3.0), -1.0, 3.0
    scaled = [(min(max(value, low), high) - low) / (high - low) for value in values]
    m = (most - low) / (high - low)
    capitals = [
        list(accumulate((1 + stake / m * (x - m) for x in scaled), lambda a, b: a * b, initial=1.0))
        for stake in STAKES.tolist()
    ]
    capital = sum(column[-1] for column in capitals) / len(STAKES)
    for value in values:
        bet.see(value)
    if abs(capital * alpha / 2.0 - 1.0) > 1e-9:  # half of alpha: the other is staked anew
        assert bet.won(alpha) == (capital >= 2.0 / alpha)
    assert min(min(column) for column in capitals) > 0.0


@pytest.mark.parametrize("good", [0, 10 * EPOCH, 100 * EPOCH])
def test_what_begins_late_is_found_nearly_as_soon(good: int) -> None:
    bet = Bet(0.01, -1.0, 1.0)
    for _ in range(good):
        bet.see(0.0)
    assert not bet.won(ALPHA)
    for _ in range(40 if good else 20):
        bet.see(1.0)
    assert bet.won(ALPHA)
