"""Weights under which being relevant tells nothing of the group that an item belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from training.dataset import LabelledList
from training.equity import Fairness
from training.groups import large, names_of
from worker.ranking.model import Doubles

Cell: TypeAlias = tuple[str, ...]
"""What names a group of all ways together."""


def reweighed(lists: Sequence[LabelledList], fairness: Fairness) -> Sequence[LabelledList]:
    """The lists, each weight times that of its group and label; as they are where it is off.

    What counts 0, belongs to no group or to a small one keeps its weight.
    """
    if not (fairness.reweigh and lists):
        return lists
    weights = np.concatenate([one.weights for one in lists])
    relevant = np.concatenate([one.grades for one in lists]) >= fairness.relevant
    found = factors(_groups(lists, weights, fairness), relevant.tolist(), weights)
    ends = np.cumsum([len(one.weights) for one in lists])[:-1]
    return [
        replace(one, weights=one.weights * factor)
        for one, factor in zip(lists, np.split(found, ends), strict=True)
    ]


def factors(groups: Sequence[Cell | None], relevant: Sequence[bool], weights: Doubles) -> Doubles:
    """[n] P(group) P(label) / P(group, label), of what weighs `weights` [n] (Kamiran & Calders
    2012, "Data preprocessing techniques for classification without discrimination", section 4,
    Reweighing).

    A group of which all is relevant, or nothing, keeps its weights, 1, and is left out of the
    chances: no weights could part it from its label. So the mean of all factors, by weight, is 1.
    """
    table: dict[Cell, dict[bool, float]] = defaultdict(lambda: {False: 0.0, True: 0.0})
    for group, label, weight in zip(groups, relevant, weights.tolist(), strict=True):
        if group is not None:
            table[group][label] += weight
    both = {group: cells for group, cells in table.items() if all(cells.values())}
    of = _independent(both)
    return np.array(
        [
            1.0 if group not in both else of[group, label]
            for group, label in zip(groups, relevant, strict=True)
        ]
    )


def _independent(table: Mapping[Cell, Mapping[bool, float]]) -> dict[tuple[Cell, bool], float]:
    total = sum(sum(cells.values()) for cells in table.values())
    labels = {label: sum(cells[label] for cells in table.values()) for label in (False, True)}
    return {
        (group, label): sum(cells.values()) * labels[label] / (total * weight)
        for group, cells in table.items()
        for label, weight in cells.items()
    }


def _groups(
    lists: Sequence[LabelledList], weights: Doubles, fairness: Fairness
) -> list[Cell | None]:
    """What all ways say of each candidate together; None where one of them says nothing."""
    items = [entry.item for one in lists for entry in one.search.entries]
    ways = [names_of(way, items) for way in fairness.groups]
    cells: list[Cell | None] = [
        tuple(name for name in names if name is not None)
        if weight > 0.0 and None not in names
        else None
        for weight, names in zip(weights, zip(*ways, strict=True), strict=True)
    ]
    return large(cells, fairness.fewest)
