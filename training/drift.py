"""Drift: whether what is searched, shown and clicked now is still what the last round learned from.

Each test compares shares b of the lists before with shares a of the lists now, [m] each. Its effect
is a norm of the difference, ||a - b||. Over thousands of lists any difference is significant, so
the hypothesis is that the effect is at most a set size (minimum-effect tests: Murphy & Myors, J.
Applied Psychology 84, 1999). What is measured is at most what is true plus the noise, in any norm;
hence, over R draws of the noise,

    p = (1 + #{||noise|| >= ||a - b|| - size}) / (1 + R).

The noise is drawn by a bootstrap of whole users in each window, centred on the window's own shares
(Efron & Tibshirani 1993, chapters 13 and 16; of clusters: Field & Welsh, JRSS B 69, 2007). Lists of
one user are no independent witnesses: a test that takes them for such calls that a drift. Nor are
users exchangeable between windows, for in the longer one each has more lists: so no permutation.
Over all tests the chance of a false call is held at FALSE_ALARM by Holm's step-down (Scandinavian
J. of Statistics 6, 1979).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Final, TypeAlias

import numpy as np
from msgspec import Meta, Struct

from training.bootstrap import RESAMPLES
from training.columns import words
from training.windows import (
    Counted,
    Window,
    categories_shown,
    clicks,
    named,
    new_queries,
    query_words,
    scores,
)
from worker.ranking.model import Doubles, Integers

FALSE_ALARM: Final = 0.05  # chance that anything is called where nothing has drifted
FEWEST_USERS: Final = 30  # resampling fewer tells too little of the noise
Size: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class DriftSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much must have changed to be called a drift, and what follows."""

    starts_round: Annotated[
        bool, Meta(description="a drift begins a round; false: it is measured and logged only")
    ] = False
    every_seconds: Annotated[float, Meta(gt=0, description="between looks for a drift")] = 900.0
    lists: Annotated[
        int, Meta(ge=1, le=20_000, description="that are compared with as many, the newest first")
    ] = 4_000
    least_lists: Annotated[int, Meta(ge=1, description="fewer are not compared")] = 500
    places: Annotated[
        int, Meta(ge=1, le=100, description="how many of a list's places count as shown")
    ] = 10
    click_minutes: Annotated[
        float,
        Meta(ge=0, description="a click counts this long after its list; younger lists wait"),
    ] = 30.0
    queries: Annotated[
        Size,
        Meta(description="called where the share of searches never asked before changed by more"),
    ] = 0.1
    words: Annotated[
        Size,
        Meta(description="called where more than this share of the words of queries are others"),
    ] = 0.15
    categories: Annotated[
        Size,
        Meta(
            description="called where more than this share of what is shown is of other categories"
        ),
    ] = 0.1
    scores: Annotated[
        Size,
        Meta(description="called where the share of items up to any one relevance changed by more"),
    ] = 0.1
    clicks: Annotated[
        Size,
        Meta(
            description="called where the share of lists clicked at any one place changed by more"
        ),
    ] = 0.05

    def __post_init__(self) -> None:
        if self.least_lists > self.lists:
            raise ValueError(f"least_lists {self.least_lists}: expected at most lists {self.lists}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The lists that are compared."""

    known: Window  # older than `before`: what had been asked by then
    before: Window  # the newest that the last round learned from
    first: Window  # the first since then
    now: Window  # the newest since then


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one test came to."""

    of: str
    effect: float
    p: float  # of an effect as large as this where the true one is at most the set size
    line: str  # for people
    called: bool = False


Norm: TypeAlias = Callable[[Doubles], Doubles]
Count: TypeAlias = Callable[[Window, Window], tuple[Counted, Counted]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows, and what the earlier is to people."""

    before: Window
    now: Window
    then: str

    def enough(self, least: int) -> bool:
        """Whether both tell something."""
        return all(
            len(each) >= least and len({one.user for one in each}) >= FEWEST_USERS
            for each in (self.before, self.now)
        )


def largest(differences: Doubles) -> Doubles:
    """[...] of [..., m]: the largest size. Of cumulative shares it is Kolmogorov and Smirnov's."""
    return np.asarray(np.abs(differences).max(axis=-1), dtype=np.float64)


def moved(differences: Doubles) -> Doubles:
    """[...] of [..., m]: half the sum of sizes, the total variation: the share that moved."""
    return np.asarray(np.abs(differences).sum(axis=-1) / 2.0, dtype=np.float64)


LINES: Final = {
    "queries": "queries changed: {now} of the last {lists} searches were never asked before"
    " ({before} in {then})",
    "words": "words of queries changed: {name!r} is {now} of them in the last {lists} searches"
    " ({before} in {then}); {effect} became other words",
    "categories": "categories changed: {name!r} is {now} of what the last {lists} lists show"
    " ({before} in {then}); {effect} became other categories",
    "scores": "scores changed: {now} of what the last {lists} lists show has a relevance of at most"
    " {name} ({before} in {then})",
    "clicks": "clicks changed: {now} of the last {lists} lists were clicked at place {name}"
    " ({before} in {then})",
}
TESTS: Final = tuple(LINES)


def findings(windows: Windows, settings: DriftSettings) -> list[Finding]:
    """What every test came to that has enough lists on both sides, with Holm's verdict."""
    known = {words(one.query) for one in windows.known}
    asked = Pair(windows.before, windows.now, "the round's own data")
    shown = _of_one_model(windows, settings.least_lists)
    plan: tuple[tuple[str, float, Norm, Pair, Count], ...] = (
        ("queries", settings.queries, largest, asked, partial(new_queries, known)),
        ("words", settings.words, moved, asked, partial(named, query_words)),
        ("categories", settings.categories, moved, shown, partial(named, categories_shown)),
        ("scores", settings.scores, largest, shown, scores),
        ("clicks", settings.clicks, largest, shown, clicks),
    )
    enough = [each for each in plan if each[3].enough(settings.least_lists)]
    tried = [_tested(*each) for each in enough if known or each[0] != "queries"]
    return holm([one for one in tried if one is not None])


def holm(found: Sequence[Finding]) -> list[Finding]:
    """The same, those `called` whose p, the k-th smallest of K, is at most FALSE_ALARM / (K + 1 -
    k), as every smaller one is by its own rank."""
    called = set()
    for rank, one in enumerate(sorted(found, key=lambda each: each.p)):
        if one.p > FALSE_ALARM / (len(found) - rank):
            break
        called.add(one.of)
    return [replace(one, called=one.of in called) for one in found]


def _of_one_model(windows: Windows, least: int) -> Pair:
    """What the model that serves now has shown: what another one would show is no drift.

    It is held against what the last round learned from, or else, after a promotion, against the
    first lists of the model.
    """
    models = Counter(one.model for one in windows.now)
    (model, _), *_ = models.most_common(1) or [(None, 0)]
    before, first, now = (
        [one for one in window if one.model == model]
        for window in (windows.before, windows.first, windows.now)
    )
    if len(before) >= least:
        return Pair(before, now, "the round's own data")
    return Pair(first, now, "the first lists of this model")


def _tested(of: str, size: float, norm: Norm, pair: Pair, count: Count) -> Finding | None:
    """None where a window has nothing of what is counted."""
    before, now = count(pair.before, pair.now)
    if not before.names or not (before.bases.any() and now.bases.any()):
        return None
    change = now.shares - before.shares
    effect = float(norm(change))
    users = [_numbers([one.user for one in window]) for window in (pair.before, pair.now)]
    noise = norm(now.noise(users[1], seed=1) - before.noise(users[0], seed=0))
    most = int(np.argmax(np.abs(change)))
    line = LINES[of].format(
        name=now.names[most],
        now=_percent(float(now.shares[most])),
        before=_percent(float(before.shares[most])),
        effect=_percent(effect),
        lists=f"{len(pair.now):,}",
        then=pair.then,
    )
    p = (1 + int((noise >= effect - size).sum())) / (1 + RESAMPLES)
    return Finding(of=of, effect=effect, p=p, line=line)


def _numbers(users: Sequence[str]) -> Integers:
    """[n] the same number for the same user, counted from 0."""
    return np.asarray(np.unique(np.array(users), return_inverse=True)[1], dtype=np.int64)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
