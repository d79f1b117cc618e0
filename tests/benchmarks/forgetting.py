"""What arms of `drift_periods` know of old and of new queries in the end, and what they lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from tests.benchmarks.cells import ratio, told
from tests.benchmarks.periods import PERIODS
from training.evaluate import Estimate, interval
from worker.ranking.model import Doubles

RANDOM: Final = "random"
ZERO_SHOT: Final = "zero-shot"
AT_ONCE: Final = "everything at once"
NAIVE: Final = "naive continuation"
FIRST: Final = "first period"  # what all that go on from a champion begin with


class Line(Struct, frozen=True, kw_only=True):
    """What one arm came to in one period, from 1.

    `ndcg` is of the queries of the periods so far, one period after the other, so many of each set
    as `queries` says.
    """

    arm: str
    seed: int
    period: int
    bundle: str  # its digest; empty where nothing was trained
    recipe: dict[str, Any]
    pairs: int  # that were learned from in this period
    seconds: float  # of training
    commit: str
    machine: str
    queries: dict[str, list[int]]
    ndcg: dict[str, dict[str, list[float]]]

    def means(self, on: str, way: str) -> list[float]:
        """Of each period so far."""
        return [float(one.mean()) for one in split(self.ndcg[on][way], self.queries[on])]


def split(values: Sequence[float], sizes: Sequence[int]) -> list[Doubles]:
    """Values [queries], one period after the other, as one array a period."""
    return np.split(np.array(values, float), np.cumsum(sizes)[:-1])


def rows(lines: Sequence[Line], on: str, way: str, beside: str = NAIVE) -> list[dict[str, str]]:
    """An arm a row, after the last period: means over old queries (those of all periods but the
    last), new ones and both; the ratio of both to everything at once, and of what lies above a
    random order; the change from the arm `beside`, of old queries and of new ones too, and what old
    periods lost since they were best. Seeds are paired, then queries."""
    last = [line for line in lines if line.period == PERIODS]
    arms = {arm: [line for line in last if line.arm == arm] for arm in [one.arm for one in last]}
    if not arms.get(AT_ONCE) or not arms.get(ZERO_SHOT):
        return []
    random = _mean(arms[ZERO_SHOT], on, RANDOM)
    found = []
    for arm, of in {RANDOM: arms[ZERO_SHOT], **arms}.items():
        chosen, whole = _paired(of, arms[AT_ONCE])
        if not chosen:
            continue
        ours = _mean(chosen, on, RANDOM if arm == RANDOM else way)
        theirs = _mean(whole, on, way)
        compared, theirs_beside = _paired(chosen, arms.get(beside, []))
        lost = forgotten(lines, chosen, on, way)
        continued = bool(theirs_beside) and lost is not None and arm != beside
        change = _mean(compared, on, way) - _mean(theirs_beside, on, way) if continued else None
        old = sum(chosen[0].queries[on][:-1])
        found.append(
            {
                "arm": arm,
                "old": _short(ours[:old].mean()),
                "new": _short(ours[old:].mean()),
                "both": _short(ours.mean()),
                "of at once": _interval(ratio(ours, theirs)),
                "above random": _interval(ratio(ours - random, theirs - random)),
                f"from {beside}": "" if change is None else told(interval(change, 0)),
                "of old": "" if change is None else told(interval(change[:old], 0)),
                "of new": "" if change is None else told(interval(change[old:], 0)),
                "forgotten": "" if lost is None else f"{lost:+.4f}",
                "seeds": str(len(chosen)),
            }
        )
    return found


def _paired(of: Sequence[Line], others: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Those of the seeds that both have; what was not trained has no seed of its own."""
    if any(not line.bundle for line in of):
        return list(of), list(others)
    both = {line.seed for line in of} & {line.seed for line in others}
    chosen, theirs = ([one for one in each if one.seed in both] for each in (of, others))
    return chosen, theirs


def forgotten(lines: Sequence[Line], last: Sequence[Line], on: str, way: str) -> float | None:
    """What an old period lost from when its mean was best to the last period, in the mean over old
    periods and seeds (Chaudhry et al. 2018, "Riemannian walk for incremental learning", section
    3.2); None for an arm that was not judged before."""
    lost = []
    for end in last:
        before = [
            line.means(on, way)
            for line in lines
            if line.seed == end.seed and line.period < end.period and line.arm in (end.arm, FIRST)
        ]
        if len(before) < end.period - 1:
            return None
        for period, now in enumerate(end.means(on, way)[:-1]):
            lost.append(max(one[period] for one in before if len(one) > period) - now)
    return float(np.mean(lost))


def _mean(lines: Sequence[Line], on: str, way: str) -> Doubles:
    """[queries] over the seeds."""
    means: Doubles = np.mean([line.ndcg[on][way] for line in lines], axis=0)
    return means


def _short(value: float) -> str:
    return f"{value:.4f}"


def _interval(found: Estimate) -> str:
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"
