"""Before and after: what another model made of the same needs. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.demo.tally import Quality, Tally, mean

RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Change:
    """The same needs at the same dials, before and after; each need counts once.

    `low` and `high` bound the mean change of nDCG with 95 % confidence.
    """

    needs: int
    lists: int  # on each side
    before: Quality
    after: Quality
    ndcg: float
    low: float
    high: float


def compare(
    tally: Tally, pairs: Iterable[tuple[str, str]], champion: str, serving: str
) -> Change | None:
    """`pairs` are query ids of one need, answered by `champion` and later by `serving`.

    What another model, or none, answered is left out; None where nothing is left.
    """
    needs: defaultdict[object, list[tuple[Quality, Quality]]] = defaultdict(list)
    for earlier, later in pairs:
        old, new = tally.judged.get(earlier), tally.judged.get(later)
        if old and new and (old.model, new.model) == (champion, serving):
            visit, _ = tally.sent[earlier]
            needs[visit.user.user_id, visit.intent].append((old.ours, new.ours))
    if not needs:
        return None
    before = [mean([old for old, _ in each]) for each in needs.values()]
    after = [mean([new for _, new in each]) for each in needs.values()]
    changes = [new.ndcg - old.ndcg for old, new in zip(before, after, strict=True)]
    low, high = interval(changes)
    return Change(
        needs=len(needs),
        lists=sum(map(len, needs.values())),
        before=mean(before),
        after=mean(after),
        ndcg=float(np.mean(changes)),
        low=low,
        high=high,
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap of a mean (Efron & Tibshirani 1993, chapter 13)."""
    known = np.array(values)
    drawn = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.percentile(known[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
