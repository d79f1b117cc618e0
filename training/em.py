"""The position-based model by expectation maximisation: how often each place is looked at, and how
often each group of impressions is clicked on when it is. `training.examination` says why.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from training.columns import Columns
from worker.ranking.model import Doubles, Integers

PRIOR: Final = 2.0  # examinations of the mean attraction that each group is given to begin with


class Tally(NamedTuple):
    """What is counted of each group at each place where it was shown; arrays are [cells]."""

    group: Integers
    place: Integers  # from 0
    shown: Doubles
    clicks: Doubles
    groups: int
    depth: int

    def of_place(self, values: Doubles) -> Doubles:
        """[depth] sums."""
        return _sums(self.place, values, self.depth)

    def of_group(self, values: Doubles) -> Doubles:
        """[groups] sums."""
        return _sums(self.group, values, self.groups)


def tallied(columns: Columns, groups: Integers, depth: int) -> Tally:
    """The counts down to place `depth`; `groups` [n] is the group of each impression."""
    inside = columns.places <= depth
    keys, back = np.unique(groups[inside] * depth + columns.places[inside] - 1, return_inverse=True)
    return Tally(
        group=keys // depth,
        place=keys % depth,
        shown=np.bincount(back, minlength=len(keys)).astype(np.float64),
        clicks=_sums(back, columns.clicks[inside], len(keys)),
        groups=int(groups.max()) + 1,
        depth=depth,
    )


def fit(tally: Tally, iterations: int, tolerance: float) -> tuple[Doubles, Doubles]:
    """(theta [depth], attraction [groups]), until nothing moves by `tolerance` in a step.

    They share a scale that clicks do not tell: the largest theta is 1.
    """
    theta = tally.of_place(tally.clicks) / np.maximum(tally.of_place(tally.shown), 1.0)
    theta = np.maximum(theta / max(float(theta.max()), 1e-9), 1e-9)
    attraction = np.full(tally.groups, tally.clicks.sum() / (tally.shown @ theta[tally.place]))
    for _ in range(iterations):
        before = theta, attraction
        theta, attraction = _stepped(tally, theta, np.minimum(attraction, 1.0))
        moves = (np.abs(new - old) for new, old in zip((theta, attraction), before, strict=True))
        if max(float(move.max()) for move in moves) < tolerance:
            break
    return theta, attraction


def _stepped(tally: Tally, theta: Doubles, attraction: Doubles) -> tuple[Doubles, Doubles]:
    seen, drawn = theta[tally.place], attraction[tally.group]
    missed = (tally.shown - tally.clicks) / (1.0 - np.minimum(seen * drawn, 1.0 - 1e-9))
    examined = tally.clicks + missed * seen * (1.0 - drawn)
    attractive = tally.clicks + missed * drawn * (1.0 - seen)
    theta = tally.of_place(examined) / np.maximum(tally.of_place(tally.shown), 1.0)
    mean = attractive.sum() / tally.shown.sum()
    mass = tally.of_group(tally.shown)
    attraction = (tally.of_group(attractive) + PRIOR * mean) / (mass + PRIOR)
    scale = max(float(theta.max()), 1e-9)
    return np.maximum(theta / scale, 1e-9), attraction * scale


def _sums(of: Integers, values: Doubles, count: int) -> Doubles:
    return np.bincount(of, weights=values, minlength=count).astype(np.float64)
