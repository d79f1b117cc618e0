"""Clicks -> what items are worth: grades that no longer depend on where an item stood.

In come impression lists and the examination of each place; out come lists to learn from, with a
grade for each candidate that was shown and the mass of evidence behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from training.columns import Columns, columns, words
from training.dataset import LabelledList, share_of
from training.examination import Examination
from training.impressions import ImpressionList
from training.labels import Share
from worker.events import Candidate, HistoryEntry, Item
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Doubles, Integers

GRID: Final = np.linspace(0.01, 1.0, 100)  # of attraction
ENDS: Final = (0.05, 0.95)  # of the distribution of attraction: what is worth nothing, and all
STEPS: Final = 200
STRATA: Final = 10
PAIRS: Final = 100  # at least in each stratum
MOST_PAIRS: Final = 1_000  # of a stratum, that its distribution is estimated from
LEAST_SPAN: Final = 0.05  # from floor to ceiling: less is noise


class DebiasSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clicks become grades."""

    estimator: Annotated[
        Literal["ips", "ratio", "naive"],
        Meta(
            description="ips: the mean of grade / examination; ratio: the grades over the "
            "examination that there was (clicks over expected clicks); naive: the mean grade"
        ),
    ] = "ratio"
    rows: Annotated[
        Literal["query", "impression"],
        Meta(
            description="query: one list a query text, over all its impressions; impression: each "
            "with its user's history as it then was, where histories are to be learned from"
        ),
    ] = "query"
    clip: Annotated[
        float, Meta(gt=0, le=1, description="examination counts at least this, so that 1 / it ends")
    ] = 0.05
    shrinkage: Annotated[
        float,
        Meta(
            ge=0,
            description="examinations that each pair begins with, at the mean grade of the pairs "
            "that were examined about as often",
        ),
    ] = 3.0
    most_weight: Annotated[
        float, Meta(gt=0, description="a grade weighs as much as was examined, at most this")
    ] = 20.0
    floor: Annotated[
        Share | None,
        Meta(description="the mean grade of what is examined and worth nothing; none: estimated"),
    ] = None
    ceiling: Annotated[
        Share | None,
        Meta(description="the mean grade of what is examined and relevant; none: estimated"),
    ] = None

    def __post_init__(self) -> None:
        if self.floor is not None and self.ceiling is not None and self.floor >= self.ceiling:
            raise ValueError(f"floor {self.floor:g} must be below ceiling {self.ceiling:g}")


@dataclass(frozen=True, slots=True)
class Worth:
    """What pairs of query and item are worth; arrays are [pairs]."""

    attraction: Doubles  # the mean grade of the pair when it is examined, in [0, 1]
    mass: Doubles  # examinations that tell of it: attraction's precision
    floor: float  # attraction of what is worth nothing
    ceiling: float  # and of what is worth most

    @property
    def grades(self) -> Doubles:
        """[pairs] attraction on the scale from floor to ceiling, in [0, 1].

        The affine correction for clicks on what is worth nothing (Agarwal et al., WWW 2019,
        "Addressing trust bias for unbiased learning-to-rank"; Vardasbi et al., CIKM 2020, "When
        inverse propensity scoring does not work"), the same at every place.
        """
        grades = (self.attraction - self.floor) / (self.ceiling - self.floor)
        return np.clip(grades, 0.0, 1.0)


def split(
    lists: Sequence[ImpressionList], held_out_share: float
) -> tuple[list[ImpressionList], list[ImpressionList]]:
    """(to learn from, held out): the newest share is held out, nothing of it older than the rest.
    Lists of one moment fall on one side, that of the newer; but where less than half of what was
    asked would be left to learn from (all has one time), by the hash of `list_id` on both."""
    if not 0.0 <= held_out_share <= 1.0:
        raise ValueError(f"held_out_share: expected a share in [0, 1], got {held_out_share:g}")
    by_time = sorted(lists, key=lambda one: (one.at, share_of(one.list_id), one.list_id))
    asked = round(len(by_time) * (1.0 - held_out_share))
    older = sum(one.at < by_time[asked].at for one in by_time) if asked < len(by_time) else 0
    learned = older if 2 * older >= asked else asked
    return by_time[:learned], by_time[learned:]


def weigh(
    lists: Sequence[ImpressionList],
    examination: Examination,
    settings: DebiasSettings,
    items: Mapping[str, Item] | None = None,
) -> list[LabelledList]:
    """Lists to learn from. `items` is the catalogue, where histories are to be learned from.

    Rows by query: the grades of `worth`, each weighing its mass up to `most_weight`; of an item's
    texts the newest stand. Rows by impression: what was acted on has its own grade at weight 1;
    what was not has grade 0 and weighs P(examined | not clicked) = theta (1 - a) / (1 - theta a)
    (Wang et al., WSDM 2018, the expectation step), a being the pair's attraction; floor and ceiling
    do not correct these.
    """
    if not lists:
        return []
    table, pairs = columns(lists)
    found = worth(table, examination, settings)
    if settings.rows == "impression":
        return _by_impression(lists, _examined(table, examination, found, settings), items or {})
    return _by_query(lists, found, {pair: n for n, pair in enumerate(pairs)}, settings)


def attractions(
    lists: Sequence[ImpressionList], examination: Examination, settings: DebiasSettings
) -> dict[tuple[str, str], float]:
    """(words of the query, item_id) -> its mean grade when examined: a reward model's scale."""
    table, pairs = columns(lists)
    found = worth(table, examination, settings).attraction if pairs else ()
    return dict(zip(pairs, map(float, found), strict=True))


def worth(table: Columns, examination: Examination, settings: DebiasSettings) -> Worth:
    """What each pair is worth, by the estimator that the settings name.

    ips is the clipped inverse propensity estimate (Joachims et al., WSDM 2017, "Unbiased
    learning-to-rank with biased feedback"); ratio is its self-normalised form, clicks over expected
    clicks (Chapelle and Zhang, WWW 2009), of less variance where a pair was shown at places of
    unequal examination. `shrinkage` moves both towards the mean of the pairs that were examined
    about as often.
    """
    theta = _theta(table, examination, settings)
    shown = _sums(table, np.ones(len(table)))
    if settings.estimator == "ips":
        raw = _sums(table, table.grades / theta) / shown
        mass = shown**2 / _sums(table, 1.0 / theta)
    else:
        mass = _sums(table, theta)
        raw = _sums(table, table.grades) / mass
    strata = _strata(mass)
    means = np.array([raw[rows] @ mass[rows] / mass[rows].sum() for rows in strata])
    mean = np.repeat(means, [len(rows) for rows in strata])[np.argsort(np.concatenate(strata))]
    attraction = (raw * mass + settings.shrinkage * mean) / (mass + settings.shrinkage)
    floor, ceiling = _ends(raw * mass, mass, strata, _dispersion(table.grades), settings)
    return Worth(np.clip(attraction, 0.0, 1.0), mass, floor, ceiling)


def _strata(mass: Doubles) -> list[Integers]:
    """Pairs that were examined about as often: a list shows more often what it holds for relevant,
    so that these differ in what they are worth, and are no sample of one another."""
    count = min(STRATA, max(1, len(mass) // PAIRS))
    return np.array_split(np.argsort(mass, kind="stable"), count)


def _theta(table: Columns, examination: Examination, settings: DebiasSettings) -> Doubles:
    if settings.estimator == "naive":
        return np.ones(len(table))
    return np.maximum(examination.at(table.places), settings.clip)


def _sums(table: Columns, values: Doubles) -> Doubles:
    return np.bincount(table.pairs, weights=values).astype(np.float64)


def _dispersion(grades: Doubles) -> float:
    """Variance over mean of a sum of rare grades: 1 where all grades are 1 (compound Poisson)."""
    return float((grades**2).sum() / grades.sum()) if grades.any() else 1.0


def _ends(
    sums: Doubles,
    mass: Doubles,
    strata: Sequence[Integers],
    dispersion: float,
    settings: DebiasSettings,
) -> tuple[float, float]:
    """(floor, ceiling): as set, else the 5 % and 95 % points of the attractions that pairs have.

    Of attractions, not of their estimates, which chance widens. 0 and 1 where there are too few
    pairs, or all are alike.
    """
    low, high = 0.0, 1.0
    if len(mass) >= STRATA * PAIRS and (settings.floor is None or settings.ceiling is None):
        share = sum(
            (_distribution(sums[some], mass[some], dispersion) for some in map(_some, strata)),
            start=np.zeros(len(GRID)),
        )
        low, high = GRID[np.searchsorted(np.cumsum(share) / share.sum(), ENDS)].tolist()
    floor = low if settings.floor is None else settings.floor
    ceiling = high if settings.ceiling is None else settings.ceiling
    return (floor, ceiling) if ceiling - floor >= LEAST_SPAN else (0.0, 1.0)


def _some(rows: Integers) -> Integers:
    """At most MOST_PAIRS of them, evenly."""
    return rows[:: len(rows) // MOST_PAIRS + 1]


def _distribution(sums: Doubles, mass: Doubles, dispersion: float) -> Doubles:
    """[grid] how attraction is distributed, grades of a pair being Poisson about mass x attraction:
    the nonparametric maximum likelihood estimate (Laird, JASA 1978; by em on a grid, as in Jiang
    and Zhang, Annals of Statistics 2009), stopped early, which keeps it smooth."""
    expected = mass[:, np.newaxis] * GRID
    logs = (sums[:, np.newaxis] * np.log(expected) - expected) / dispersion
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    share = np.full(len(GRID), 1.0 / len(GRID))
    for _ in range(STEPS):
        share = share * (likelihood / (likelihood @ share)[:, np.newaxis]).mean(axis=0)
    return share


def _examined(
    table: Columns, examination: Examination, found: Worth, settings: DebiasSettings
) -> Doubles:
    """[n] P(examined | what was done): 1 where anything was."""
    theta = np.minimum(_theta(table, examination, settings), 1.0)
    drawn = np.minimum(found.attraction[table.pairs], 1.0 - 1e-9)
    unclicked = theta * (1.0 - drawn) / (1.0 - theta * drawn)
    return np.where(table.clicks > 0, 1.0, unclicked)


def _by_query(
    lists: Sequence[ImpressionList],
    found: Worth,
    numbers: Mapping[tuple[str, str], int],
    settings: DebiasSettings,
) -> list[LabelledList]:
    newest: dict[str, ImpressionList] = {}
    shown: dict[str, dict[str, Candidate]] = {}
    for one in sorted(lists, key=lambda one: (one.at, one.list_id)):
        query = words(one.query)
        newest[query] = one
        shown.setdefault(query, {}).update({each.item.item_id: each.item for each in one.shown})
    grades, weights = found.grades, np.minimum(found.mass, settings.most_weight)
    rows = []
    for query, one in newest.items():
        values = {
            item_id: (float(grades[n]), float(weights[n]))
            for item_id in shown[query]
            for n in (numbers[query, item_id],)
        }
        rows.append(_labelled(one, shown[query].values(), values, (), {}))
    return [row for row in rows if len(row.grades)]


def _by_impression(
    lists: Sequence[ImpressionList], examined: Doubles, items: Mapping[str, Item]
) -> list[LabelledList]:
    rows, start = [], 0
    for one in lists:
        weights = examined[start : start + len(one.shown)].tolist()
        start += len(one.shown)
        values = {
            each.item.item_id: (each.grade, weight)
            for each, weight in zip(one.shown, weights, strict=True)
        }
        candidates = [each.item for each in one.shown]
        rows.append(_labelled(one, candidates, values, one.history, items))
    return [row for row in rows if len(row.grades)]


def _labelled(
    one: ImpressionList,
    candidates: Iterable[Candidate],
    values: Mapping[str, tuple[float, float]],
    history: tuple[HistoryEntry, ...],
    items: Mapping[str, Item],
) -> LabelledList:
    """The candidates joined as the worker joins them; `values` is item_id -> (grade, weight)."""
    event = msgspec.structs.replace(
        one.event, candidates=tuple(candidates), history=history, policy=None, timestamp=one.at
    )
    search = join(event, Tables(catalogue=items), Dials())
    aligned = np.array([values[entry.item.item_id] for entry in search.entries]).reshape(-1, 2)
    return LabelledList(search, aligned[:, 0].copy(), aligned[:, 1].copy())
