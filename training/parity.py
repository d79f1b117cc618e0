"""Whether a challenger's lists are less fair to groups of items than the champion's.

A measure is of all lists together, so its interval draws queries again, the same for both. Each is
told so that more is better: of coverage and opportunity, minus the largest difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from training.bootstrap import BLOCKS, percentiles, resampled
from training.fairness import Lists, Pools
from training.gate import FAIR, Check, GateSettings, known
from worker.ranking.metrics import exposure
from worker.ranking.model import Doubles, Integers

TELLS: Final = {
    "exposure_parity": "the smallest mean exposure of a group over the largest",
    "equal_opportunity": "minus the largest difference in the share of what is relevant and shown",
    "equal_coverage": "minus the largest difference in the share of what is shown",
}
SUMS: Final = ("count", "shown", "exposure", "relevant", "found")
"""Of a group's candidates: all, of them shown, their exposure; the relevant, of them shown."""


@dataclass(frozen=True, slots=True)
class Two:
    """The lists of champion and challenger, of the queries of some pools; the first `k` places."""

    old: Lists
    new: Lists
    k: int
    seed: int


def parity_checks(
    pools: Pools, two: Two, on: str, beside: str, settings: GateSettings
) -> Iterator[Check]:
    """A check for each of FAIR; `beside` is what a note ends with: what fairness is bought with."""
    by = pools.field or ""
    on = f"{on} by {by}" if by else on
    count = len(pools.items)
    if len(set(pools.groups) - {None}) < 2:
        few = "there are no two groups large enough to compare"
        for name in FAIR:
            yield known(Check(measure=name, on=on, by=by, note=few), 0, count, settings)
        return
    sums = [tallies(pools, lists, two.k) for lists in (two.old, two.new)]
    old, new = (measures(each.sum(axis=0, keepdims=True))[0] for each in sums)
    drawn = [measures(resampled(each, two.seed)) for each in sums]
    low, high = percentiles(drawn[1] - drawn[0])
    for name, *numbers in zip(FAIR, old, new, new - old, low, high, strict=True):
        told = _telling(pools, pools.relevant if name == "equal_opportunity" else pools.groups)
        found = _check(name, on, numbers, f"{TELLS[name]}{beside}")
        yield known(msgspec.structs.replace(found, by=by), told, count, settings)


def _check(name: str, on: str, numbers: Sequence[float], note: str) -> Check:
    """Of champion, challenger, change and its interval."""
    if np.isnan(numbers).any():
        few = "there are no two groups of enough relevant items to compare"
        return Check(measure=name, on=on, note=few)
    champion, challenger, change, low, high = map(float, numbers)
    return Check(
        measure=name,
        on=on,
        champion=champion,
        challenger=challenger,
        change=change,
        low=low,
        high=high,
        note=note,
    )


def tallies(pools: Pools, lists: Lists, k: int) -> Doubles:
    """[blocks, 5 * groups] the sums over the candidates of a block of queries, query i falling into
    block i mod BLOCKS; one of SUMS after another."""
    names = sorted(set(pools.groups) - {None}, key=str)
    number = {name: place for place, name in enumerate(names)}
    block = _queries(pools) % BLOCKS
    seen = np.array([exposure(place, k) for place in pools.places(lists)])
    shown, each = (seen > 0).astype(float), np.ones(len(seen))
    table = np.zeros((len(SUMS), min(BLOCKS, len(pools.items)), len(names)))
    for part, values in enumerate((each, shown, seen, each, shown)):
        groups = pools.groups if part < SUMS.index("relevant") else pools.relevant
        rows = [row for row, group in enumerate(groups) if group is not None]
        columns = np.array([number[groups[row]] for row in rows], dtype=np.intp)
        np.add.at(table[part], (block[rows], columns), values[rows])
    return np.concatenate(list(table), axis=1)


def _queries(pools: Pools) -> Integers:
    """[candidates] the query that each stands under."""
    return np.repeat(np.arange(len(pools.items)), [len(items) for items in pools.items])


def _telling(pools: Pools, groups: Sequence[object]) -> int:
    """How many queries have a candidate of a group."""
    return len(np.unique(_queries(pools)[[group is not None for group in groups]]))


def measures(totals: Doubles) -> Doubles:
    """[n, 3] FAIR of totals [n, 5 * groups], as `Pools.spread` has them but for the sign; NaN where
    there are no two groups."""
    count, shown, seen, relevant, found = (_of(totals, name) for name in SUMS)
    means = _shares(seen, count)
    high, low = _ends(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        parity = np.where(high > 0.0, low / high, np.where(np.isnan(high), np.nan, 1.0))
    opportunity, coverage = (
        np.subtract(*reversed(_ends(_shares(*each))))
        for each in ((found, relevant), (shown, count))
    )
    return np.stack([parity, opportunity, coverage], axis=1)


def _of(sums: Doubles, name: str) -> Doubles:
    """[n, groups] one of SUMS."""
    return np.split(sums, len(SUMS), axis=1)[SUMS.index(name)]


def _shares(of: Doubles, count: Doubles) -> Doubles:
    """NaN for a group of which there is nothing."""
    return np.divide(of, count, out=np.full_like(of, np.nan), where=count > 0.0)


def _ends(values: Doubles) -> tuple[Doubles, Doubles]:
    """[n] the largest and the smallest of each row [n, groups]; NaN where there are no two."""
    there = ~np.isnan(values)
    several = there.sum(axis=1) > 1
    high = np.max(values, axis=1, initial=-np.inf, where=there)
    low = np.min(values, axis=1, initial=np.inf, where=there)
    return np.where(several, high, np.nan), np.where(several, low, np.nan)
