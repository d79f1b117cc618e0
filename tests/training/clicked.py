"""Clicks of which the truth is known: pages drawn, explored and clicked, many lists at once.

The laws are those of `worker.ranking.explore` and `worker.shop.clicks`; `test_examination` holds
the first against the worker's own function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.columns import Columns
from worker.ranking.model import Doubles, Integers
from worker.shop.clicks import ClickModel

GRADES = (0.0, 1 / 3, 2 / 3, 1.0)
SHARES = (0.4, 0.25, 0.2, 0.15)
TRUTH = ClickModel(eta=1.0, noise=0.10)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the clicks were drawn from."""

    theta: Doubles  # [places]
    grades: Doubles  # [pairs that were shown]
    attraction: Doubles  # [pairs that were shown]


def clicked(
    lists: int = 20_000,
    *,
    share: float = 1.0,
    places: int = 10,
    queries: int = 300,
    pool: int = 30,
    skill: float = 2.0,
    seed: int = 0,
) -> tuple[Columns, Truth]:
    """Lists of `places` from a pool of candidates a query, ordered by grade and as much noise as
    `skill` is small (drawn anew for each list), explored with `share` and clicked."""
    chance = np.random.default_rng(seed)
    grades = chance.choice(GRADES, size=(queries, pool), p=SHARES)
    query = chance.integers(queries, size=lists)
    score = skill * grades[query] + chance.normal(scale=0.5, size=(lists, pool))
    base = np.argsort(-score, axis=1)[:, :places]
    at, probability = explored(lists, places, share, chance)
    item = np.take_along_axis(base, at, axis=1)
    theta = np.array([TRUTH.examination(place) for place in range(1, places + 1)])
    attraction = TRUTH.noise + (TRUTH.most - TRUTH.noise) * grades
    shown, pair = np.unique((query[:, np.newaxis] * pool + item).ravel(), return_inverse=True)
    grades, attraction = grades.ravel()[shown], attraction.ravel()[shown]
    clicks = chance.random(lists * places) < np.tile(theta, lists) * attraction[pair]
    up, down = np.ones((2, lists, places), dtype=bool)
    up[:, 0] = down[:, -1] = False
    columns = Columns(
        lists=np.repeat(np.arange(lists), places),
        pairs=pair,
        places=np.tile(np.arange(1, places + 1), lists),
        bases=(at + 1).ravel(),
        probabilities=probability.ravel(),
        ups=np.take_along_axis(up, at, axis=1).ravel() & (share > 0),
        downs=np.take_along_axis(down, at, axis=1).ravel() & (share > 0),
        grades=clicks.astype(np.float64),
        clicks=clicks.astype(np.float64),
        relevance=np.take_along_axis(score, item, axis=1).ravel(),
    )
    return columns, Truth(theta, grades, attraction)


def explored(
    lists: int, places: int, share: float, chance: np.random.Generator
) -> tuple[Integers, Doubles]:
    """(base place from 0, P(standing here given that base)) of each place; [lists, places] both."""
    at = np.tile(np.arange(places), (lists, 1))
    odd = chance.random(lists) < 0.5
    for first in range(places - 1):
        swap = (odd == (first % 2 == 0)) & (chance.random(lists) < share / 2)
        at[swap, first], at[swap, first + 1] = first + 1, first
    neighbours = np.where((at == 0) | (at == places - 1), 1, 2)
    moved = at != np.arange(places)
    return at, np.where(moved, share / 4, 1.0 - neighbours * share / 4)
