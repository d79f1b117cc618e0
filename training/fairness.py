"""What an order makes of a catalogue: how much of it is shown, and how evenly, group by group.

The catalogue is every candidate of the queries that are judged, and what is measured are the lists
of all of them together. Groups are as the recipe names them; else a brand is one, or a category
where the data name no brands. Queries have pools of different sizes and brands, so no order is
wholly even: the row of chance says what is due to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from training.equity import FEWEST, Fairness
from training.groups import called, large, names_of
from training.judgments import RELEVANT, GradedQuery
from worker.policies import Group
from worker.ranking.metrics import (
    catalogue_coverage,
    equal_coverage,
    exposure_parity,
    exposure_per_merit,
    gini,
    times_shown,
)

FIELDS: Final = ("brand", "category")
MEASURES: Final = (
    *("coverage", "gini", "equal_coverage", "equal_opportunity"),
    *("exposure_parity", "exposure_per_merit"),
)

Lists = Sequence[Sequence[str]]
"""Item ids, best first, of each query."""


@dataclass(frozen=True, slots=True)
class Spread:
    """MEASURES of the lists of an order; None where there are no two groups to compare."""

    group: str | None  # what tells the groups apart
    groups: int  # that are compared
    values: Mapping[str, float | None]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        numbers = {
            name: None if value is None else round(value, 5) for name, value in self.values.items()
        }
        return {"group": self.group, "groups": self.groups, **numbers}


@dataclass(frozen=True, slots=True)
class Pools:
    """The candidates of every query, and of each, one query after another, what is compared."""

    items: tuple[tuple[str, ...], ...]  # of each query
    grades: tuple[float, ...]
    field: str | None  # what tells the groups apart
    groups: tuple[str | None, ...]  # None: no group, or one of too few candidates
    relevant: tuple[str | None, ...]  # the same of the relevant candidates

    def spread(self, draws: Sequence[Lists], k: int) -> Spread:
        """What the first k places show; the mean over the draws of an order that is a lottery."""
        means = np.mean([self._measures(lists, k) for lists in draws], axis=0)
        numbers = (None if np.isnan(mean) else float(mean) for mean in means)
        values = dict(zip(MEASURES, numbers, strict=True))
        return Spread(self.field, len(set(self.groups) - {None}), values)

    def places(self, lists: Lists) -> list[int | None]:
        """The place of each candidate in the list of its query, from 1; None where it has none."""
        return list(chain.from_iterable(map(_places, self.items, lists)))

    def _measures(self, lists: Lists, k: int) -> tuple[float, ...]:
        catalogue = dict.fromkeys(chain.from_iterable(self.items))
        covered = catalogue_coverage(lists, catalogue, k)
        unevenness = gini(list(times_shown(lists, catalogue, k).values()))
        places = self.places(lists)
        coverage = parity = per_merit = opportunity = np.nan
        if _several(self.groups):
            coverage = equal_coverage(self.groups, places, k)
            parity = exposure_parity(self.groups, places, k)
            if _several(
                [g for g, grade in zip(self.groups, self.grades, strict=True) if grade > 0]
            ):
                per_merit = exposure_per_merit(self.groups, places, self.grades, k)
        if _several(self.relevant):  # of which every other group is left out
            opportunity = equal_coverage(self.relevant, places, k)
        return covered, unevenness, coverage, opportunity, parity, per_merit


def ways(queries: Sequence[GradedQuery], fairness: Fairness) -> tuple[Pools, ...]:
    """The candidates of queries, once for each way to tell groups apart that is named; else once,
    by the first of FIELDS that has two groups."""
    return tuple(
        pools(queries, fairness.fewest, way, fairness.relevant)
        for way in fairness.groups or (None,)
    )


def pools(
    queries: Sequence[GradedQuery],
    fewest: int = FEWEST,
    way: Group | None = None,
    relevant: float = RELEVANT,
) -> Pools:
    """The candidates of queries; groups are told apart by `way`, else by the first of FIELDS that
    has two large enough."""
    candidates = [item for query in queries for item in query.event.candidates]
    grades = [grade for query in queries for grade in query.grades]
    asked = [Group(field=name) for name in FIELDS] if way is None else [way]
    named = {called(each): large(names_of(each, candidates), fewest) for each in asked}
    field = next((name for name, groups in named.items() if _several(groups)), None)
    groups = named[field] if field else [None] * len(candidates)
    wanted = [
        group if grade >= relevant else None for group, grade in zip(groups, grades, strict=True)
    ]
    return Pools(
        items=tuple(tuple(item.item_id for item in query.event.candidates) for query in queries),
        grades=tuple(grades),
        field=field if way is None else called(way),
        groups=tuple(groups),
        relevant=tuple(large(wanted, fewest)),
    )


def _several(groups: Sequence[str | None]) -> bool:
    return len(set(groups) - {None}) > 1


def _places(items: Sequence[str], ranked: Sequence[str]) -> list[int | None]:
    """The place of each candidate of a query in its list, from 1."""
    place = {item: rank for rank, item in enumerate(ranked, start=1)}
    return [place.get(item) for item in items]
