"""What is learned again of older periods, so that what is new does not push it out.

Lists in, lists out: those of the newest period as they are, and so many of the older ones that
these are a given share (experience replay: Rolnick et al. 2019, "Experience replay for continual
learning", section 3.1). Pure: the seed alone decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np

from training.dataset import LabelledList
from training.sources import Replay

Value = TypeVar("Value")


def replayed(lists: Sequence[LabelledList], settings: Replay, seed: int) -> Sequence[LabelledList]:
    """The newest period's lists and the older ones that are drawn, in their order; all of them
    where no share is set.

    The older periods stand for equal parts of what is drawn, whatever their sizes; what one cannot
    give, the others do.
    """
    if settings.share is None:
        return lists
    periods = _periods(lists, timedelta(days=settings.period_days))
    newest, *older = [periods[age] for age in sorted(periods)] or [[]]
    wanted = round(len(newest) * settings.share / (1.0 - settings.share))
    chance = np.random.default_rng(seed)
    kept = set(newest)
    for rows, count in zip(older, shares([len(rows) for rows in older], wanted), strict=True):
        kept |= set(reservoir(rows, count, chance))
    return [one for row, one in enumerate(lists) if row in kept]


def reservoir(values: Iterable[Value], size: int, chance: np.random.Generator) -> list[Value]:
    """A sample of `size` in one pass, each as likely as any other; all where there are fewer
    (Vitter 1985, "Random sampling with a reservoir", algorithm R)."""
    kept: list[Value] = []
    for seen, value in enumerate(values):
        if seen < size:
            kept.append(value)
        elif (place := int(chance.integers(seen + 1))) < size:
            kept[place] = value
    return kept


def shares(sizes: Sequence[int], wanted: int) -> list[int]:
    """How many of each, as even as the `sizes` allow, so that they sum to `wanted`, or to all that
    there is: the smallest gives first, and each that follows an equal part of what is left."""
    found, left = [0] * len(sizes), wanted
    for done, row in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        found[row] = min(sizes[row], left // (len(sizes) - done))
        left -= found[row]
    return found


def _periods(lists: Sequence[LabelledList], length: timedelta) -> dict[float, list[int]]:
    """Age in whole periods before the newest list -> the rows of that age; what says no time is
    older than all."""
    times = [_utc(one.search.event.timestamp) for one in lists]
    newest = max((at for at in times if at is not None), default=None)
    found: dict[float, list[int]] = defaultdict(list)
    for row, at in enumerate(times):
        found[math.inf if at is None or newest is None else (newest - at) // length].append(row)
    return found


def _utc(at: datetime | None) -> datetime | None:
    """A time without a zone is of UTC, as in the logs."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
