"""What each player adds to a game: Shapley values, exact where they are few, else sampled. Pure.

A game tells the worth of any coalition. The Shapley value of a player is what it adds to those that
came before it, over all orders in which they may come (Shapley 1953, "A value for n-person games").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.ranking.model import Doubles

Coalitions: TypeAlias = NDArray[np.bool_]  # [m, n], true where a player is in it
Worth: TypeAlias = Callable[[Coalitions], Doubles]  # [m, n] -> [m]

FEWEST_PAIRS = 2  # of orders: one pair alone would not tell how far it may be off


@dataclass(frozen=True, slots=True)
class Shares:
    """What each of n players adds; `values` add up to whole - nothing."""

    values: Doubles  # [n]
    errors: Doubles  # [n] standard errors of the values; 0 where they are exact
    nothing: float  # the worth of nobody
    whole: float  # the worth of all


def shapley(worth: Worth, players: int, evaluations: int, seed: int = 0) -> Shares:
    """Exact where all coalitions are at most `evaluations`, else from about so many of them."""
    if 2**players <= evaluations:
        return exact(worth, players)
    return sampled(worth, players, max(FEWEST_PAIRS, evaluations // (2 * players)), seed)


def exact(worth: Worth, players: int) -> Shares:
    """Over all coalitions: Lundberg & Lee 2017, "A unified approach to interpreting model
    predictions", equation 8, with the weights |S|! (n - |S| - 1)! / n!."""
    count = 2**players
    coalitions = (np.arange(count)[:, np.newaxis] >> np.arange(players)) & 1 == 1
    found = worth(coalitions)
    sizes = coalitions.sum(axis=1)
    orders = math.factorial(players)
    weights = np.array(
        [math.factorial(s) * math.factorial(players - s - 1) / orders for s in range(players)]
    )
    values = np.zeros(players)
    for player in range(players):
        without = np.flatnonzero(~coalitions[:, player])
        added = found[without + (1 << player)] - found[without]
        values[player] = (weights[sizes[without]] * added).sum()
    return Shares(values, np.zeros(players), float(found[0]), float(found[-1]))


def sampled(worth: Worth, players: int, pairs: int, seed: int) -> Shares:
    """Over 2 x `pairs` orders, each beside its reverse.

    ApproShapley of Castro, Gomez & Tejada 2009, "Polynomial calculation of the Shapley value based
    on sampling"; the reverse orders are its antithetic form (Mitchell et al. 2022, "Sampling
    permutations for Shapley value estimation"). What the players add along one order adds up to
    whole - nothing, so that the values do, too. The standard error is over pairs of orders.
    """
    chance = np.random.default_rng(seed)
    drawn = np.stack([chance.permutation(players) for _ in range(pairs)])
    orders = np.concatenate([drawn, drawn[:, ::-1]])  # [2 pairs, n]
    places = np.argsort(orders, axis=1)
    # Of each order, the first 0, 1, ... n players: [2 pairs, n + 1, n]
    grown = places[:, np.newaxis, :] < np.arange(players + 1)[:, np.newaxis]
    coalitions, back = np.unique(grown.reshape(-1, players), axis=0, return_inverse=True)
    found = worth(coalitions)
    along = found[back.reshape(2 * pairs, players + 1)]
    added = np.take_along_axis(np.diff(along, axis=1), places, axis=1)  # [2 pairs, n], by player
    both = (added[:pairs] + added[pairs:]) / 2.0
    errors = both.std(axis=0, ddof=1) / math.sqrt(pairs)
    return Shares(both.mean(axis=0), errors, float(along[0, 0]), float(along[0, -1]))
