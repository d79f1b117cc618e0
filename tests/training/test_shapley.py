"""Shapley's axioms, as laws of random games, and the sum over all orders that they come from."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.shapley import Coalitions, Worth, exact, sampled, shapley
from worker.ranking.model import Doubles

SAME = 1e-9
numbers = st.floats(-10, 10)


@st.composite
def games(draw: st.DrawFn, least: int = 1, most: int = 5) -> Doubles:
    """The worth of each coalition, by the number whose bits are its players: [2 ** n]."""
    players = draw(st.integers(least, most))
    return np.array(draw(st.lists(numbers, min_size=2**players, max_size=2**players)))


def players_of(table: Doubles) -> int:
    return len(table).bit_length() - 1


def game(table: Doubles) -> Worth:
    return lambda coalitions: table[coalitions @ (1 << np.arange(coalitions.shape[1]))]


def over_all_orders(table: Doubles) -> Doubles:
    """Shapley 1953: what a player adds to those before it, over all orders of the players."""
    players = players_of(table)
    total = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        before = 0
        for player in order:
            total[player] += table[before | 1 << player] - table[before]
            before |= 1 << player
    return total / len(orders)


@given(games())
def test_values_are_what_the_players_add_over_all_orders(table: Doubles) -> None:
    found = exact(game(table), players_of(table))
    assert found.values == pytest.approx(over_all_orders(table), abs=SAME)
    assert not found.errors.any()


@given(games(most=7), st.integers(0, 9), st.integers(1, 4))
def test_values_add_up_to_what_all_have_over_nobody(table: Doubles, seed: int, pairs: int) -> None:
    """Efficiency; of sampled ones too, however few the orders."""
    players = players_of(table)
    for found in (exact(game(table), players), sampled(game(table), players, pairs + 1, seed)):
        assert (found.nothing, found.whole) == (table[0], table[-1])
        assert found.values.sum() == pytest.approx(table[-1] - table[0], abs=SAME)


@given(games(least=2))
def test_players_that_add_the_same_to_everyone_are_worth_the_same(table: Doubles) -> None:
    """Symmetry: the game in which the first two have changed places, added to itself."""
    bits = np.arange(len(table))
    swapped = bits & ~3 | (bits & 1) << 1 | (bits & 2) >> 1
    first, second, *_ = exact(game(table + table[swapped]), players_of(table)).values
    assert first == pytest.approx(second, abs=SAME)


@given(games(most=4), numbers, st.integers(0, 9))
def test_a_player_that_adds_the_same_to_everyone_is_worth_just_that(
    table: Doubles, worth: float, seed: int
) -> None:
    """Dummy: one player more, the last."""
    more = np.concatenate([table, table + worth])
    players = players_of(more)
    for found in (exact(game(more), players), sampled(game(more), players, 2, seed)):
        assert found.values[-1] == pytest.approx(worth, abs=SAME)
    assert found.errors[-1] == pytest.approx(0.0, abs=SAME)


@given(games(least=3, most=3), games(least=3, most=3))
def test_the_values_of_a_sum_are_the_sums_of_the_values(one: Doubles, other: Doubles) -> None:
    """Additivity."""
    both = exact(game(one + other), 3).values
    assert both == pytest.approx(
        exact(game(one), 3).values + exact(game(other), 3).values, abs=SAME
    )


def test_sampled_values_lie_within_their_errors_of_the_exact_ones() -> None:
    """Of 300 games, as many values as a normal law has within two errors: 95.4 %."""
    chance, apart = np.random.default_rng(0), []
    for seed in range(300):
        table = chance.normal(size=2**5)
        found = sampled(game(table), 5, 100, seed)
        apart.append((found.values - exact(game(table), 5).values) / found.errors)
    assert 0.93 < np.mean(np.abs(apart) < 2.0) < 0.98
    assert abs(np.mean(apart)) < 0.1


def test_orders_are_drawn_by_the_seed_alone() -> None:
    table = np.random.default_rng(0).normal(size=2**6)
    one, again, other = (sampled(game(table), 6, 3, seed).values for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    ("players", "least", "most"),
    [(0, 1, 1), (1, 2, 2), (8, 256, 256), (9, 128, 256), (40, 200, 256), (100, 350, 400)],
)
def test_about_as_many_coalitions_are_asked_for_as_may_be(
    players: int, least: int, most: int
) -> None:
    """All of them where they are few enough, else orders of them: of 100, two pairs at least."""
    asked: list[int] = []

    def worth(coalitions: Coalitions) -> Doubles:
        asked.append(len(coalitions))
        assert len(np.unique(coalitions, axis=0)) == len(coalitions)
        return np.asarray(coalitions.sum(axis=1), dtype=np.float64)

    found = shapley(worth, players, 256, seed=1)
    assert found.values == pytest.approx(np.ones(players))
    assert len(asked) == 1
    assert least <= asked[0] <= most
