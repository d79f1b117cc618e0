"""Lists as the tests for drift count them: how often something is so, of how often it could be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias

import numpy as np

from training.bootstrap import block_sums, resampled
from training.columns import words
from worker.ranking.model import Doubles, Integers

MOST_NAMES: Final = 200  # words and categories told apart
LEAST_USERS: Final = 20  # a bootstrap does not draw the noise of what it hardly sees
LEVELS: Final = 100  # of relevance, at which the windows are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A list as it was shown; the tuples have one entry a place."""

    user: str  # who was answered; the list's own id where nobody is known
    query: str
    model: str | None
    categories: tuple[str, ...]
    relevances: tuple[float | None, ...]
    clicked: tuple[bool, ...]


Window: TypeAlias = Sequence[Seen]


@dataclass(frozen=True, slots=True)
class Counted:
    """n lists as one test counts them: a share is a column's sum over that of its base."""

    names: tuple[str, ...]  # [m] what each column is about
    counts: Doubles  # [n, m]
    bases: Doubles  # [n, 1] or [n, m]

    @property
    def shares(self) -> Doubles:
        """[m]; a base of nothing has no share, 0."""
        return _ratio(self.counts.sum(axis=0), self.bases.sum(axis=0))

    def noise(self, users: Integers, seed: int) -> Doubles:
        """[1,000, m] what drawing other users changes of the shares."""
        m = len(self.names)
        sums = resampled(block_sums(np.hstack([self.counts, self.bases]), users), seed)
        return _ratio(sums[:, :m], sums[:, m:]) - self.shares


def new_queries(known: Collection[str], *both: Window) -> tuple[Counted, Counted]:
    """Searches that ask what is not `known`."""

    def count(window: Window) -> Counted:
        new = [[float(words(one.query) not in known)] for one in window]
        return Counted(("new",), np.array(new), np.ones((len(window), 1)))

    return _both(count, both)


def query_words(one: Seen) -> Sequence[str]:
    """What `named` counts of a query."""
    return words(one.query).split()


def categories_shown(one: Seen) -> Sequence[str]:
    """What `named` counts of what was shown."""
    return one.categories


def named(parts: Callable[[Seen], Sequence[str]], *both: Window) -> tuple[Counted, Counted]:
    """How often each name stands in the parts of lists, the MOST_NAMES that most users have in
    theirs; what fewer than LEAST_USERS have tells of these users, and is one column."""
    users = {(one.user, name) for window in both for one in window for name in parts(one)}
    counted = Counter(name for _, name in users)
    common = [name for name, count in counted.items() if count >= LEAST_USERS]
    names = sorted(common, key=lambda name: (-counted[name], name))
    column = {name: place for place, name in enumerate(names[:MOST_NAMES])}

    def count(window: Window) -> Counted:
        counts = np.zeros((len(window), len(column) + 1))
        for row, one in zip(counts, window, strict=True):
            for name in parts(one):
                row[column.get(name, -1)] += 1.0
        return Counted((*column, "any rarer one"), counts, counts.sum(axis=1, keepdims=True))

    return _both(count, both)


def _known(one: Seen) -> list[float]:
    return [value for value in one.relevances if value is not None]


def scores(*both: Window) -> tuple[Counted, Counted]:
    """Items with a relevance of at most each of LEVELS levels: quantiles of both windows."""
    values = list(chain.from_iterable(_known(one) for window in both for one in window))
    at = np.arange(1, LEVELS) / LEVELS
    levels = np.unique(np.quantile(values or [0.0], at, method="inverted_cdf"))

    def count(window: Window) -> Counted:
        counts = np.zeros((len(window), len(levels)))
        sizes = np.zeros((len(window), 1))
        for n, one in enumerate(window):
            own = np.sort(_known(one))
            counts[n], sizes[n] = np.searchsorted(own, levels, side="right"), len(own)
        return Counted(tuple(f"{level:.2f}" for level in levels), counts, sizes)

    return _both(count, both)


def clicks(*both: Window) -> tuple[Counted, Counted]:
    """Lists that were clicked at each place, of those that have it; half of each window must."""
    depth = min(int(np.median([len(one.clicked) for one in window])) for window in both)

    def count(window: Window) -> Counted:
        counts, bases = np.zeros((2, len(window), depth))
        for n, one in enumerate(window):
            own = one.clicked[:depth]
            counts[n, : len(own)], bases[n, : len(own)] = own, 1.0
        return Counted(tuple(str(place + 1) for place in range(depth)), counts, bases)

    return _both(count, both)


def _both(count: Callable[[Window], Counted], both: Sequence[Window]) -> tuple[Counted, Counted]:
    before, now = both
    return count(before), count(now)


def _ratio(tops: Doubles, bottoms: Doubles) -> Doubles:
    tops, bottoms = np.broadcast_arrays(tops, bottoms)
    return np.divide(tops, bottoms, out=np.zeros(tops.shape), where=bottoms > 0)
