"""Fairness of exposure: does each group get its part of what readers look at?

Singh & Joachims, KDD 2018 ("Fairness of exposure in rankings"). Candidates as in `parity`: those of
many queries stand one after another, each with its group and its place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from worker.ranking.metrics.parity import by_group


def exposure(place: int | None, k: int = 10) -> float:
    """How much a place is looked at: 1 / log2(place + 1), and 0 below k or where it has none.

    >>> exposure(1), exposure(3), exposure(None)
    (1.0, 0.5, 0.0)
    """
    return 1.0 / math.log2(place + 1.0) if place is not None and place <= k else 0.0


def exposure_parity(
    groups: Sequence[str | None], places: Sequence[int | None], k: int = 10
) -> float:
    """The smallest of the groups' mean exposures over the largest: 1 where the constraint of
    demographic parity holds (section 4.1), for fewer than two groups, and where nothing is shown.

    >>> exposure_parity(["acme", "birch", "birch"], [1, 3, None])
    0.25
    """
    return _evenness(by_group(groups, _exposures(places, k)).values())


def exposure_per_merit(
    groups: Sequence[str | None],
    places: Sequence[int | None],
    merits: Sequence[float],
    k: int = 10,
) -> float:
    """The same of each group's mean exposure over its mean merit, as a grade: 1 where no group is
    treated better than it merits (disparate treatment, section 4.2).

    A group without merit does not count: nothing says what it should get. With fewer than two that
    have some there is nothing to compare, and the value is 1.

    >>> exposure_per_merit(["acme", "birch"], [1, 3], [1.0, 0.5])
    1.0
    """
    merit = by_group(groups, merits)
    seen = by_group(groups, _exposures(places, k))
    return _evenness([seen[group] / merit[group] for group in seen if merit[group] > 0.0])


def _exposures(places: Sequence[int | None], k: int) -> list[float]:
    return [exposure(place, k) for place in places]


def _evenness(values: Collection[float]) -> float:
    largest = max(values, default=0.0)
    return min(values) / largest if largest > 0.0 else 1.0
