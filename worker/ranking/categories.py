"""P(category | item), and which brand it is: what an item is one of, for the diversifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from worker.events import Item
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Model, Reading
from worker.ranking.text import category_text, item_text

TEMPERATURE = 0.05
"""Softmax temperature of cosines with category names (as CLIP's logit scale, Radford et al. 2021,
section 2.3, there learned; here chosen for names of a few words)."""


def category_probabilities(
    search: JoinedSearch, readings: Mapping[str, Reading], model: Model
) -> Doubles:
    """[n, C]: 1 for the category that an item names; for others what the model says of it.

    That is its category head, or else the cosine with the names. Where there are no names, an item
    without a category has a row of zeros.
    """
    return _table([entry.item for entry in search.entries], search, readings, model)


def category_taste(
    search: JoinedSearch, readings: Mapping[str, Reading], model: Model
) -> Doubles | None:
    """[C]: P(category | user), the mean of the items that the user acted on, by their weights.

    p of Steck, RecSys 2018, section 3. Of a category that no candidate can be of nothing is told:
    it says nothing of the list. None where nothing is left.
    """
    if not search.history:
        return None
    table = _table([item for item, _ in search.history], search, readings, model)
    weights = np.array([weight for _, weight in search.history])
    taste = weights / weights.max() @ table  # old tastes fade; the shares stay
    total = taste.sum()
    return np.asarray(taste / total, dtype=np.float64) if total > 0.0 else None


def brands(search: JoinedSearch) -> Doubles:
    """[n, B]: which brand each item names, upper and lower case aside."""
    names = [(entry.item.brand or "").strip().casefold() for entry in search.entries]
    column = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
    table = np.zeros((len(names), len(column)))
    for row, name in enumerate(names):
        if name:
            table[row, column[name]] = 1.0
    return table


def _table(
    items: Sequence[Item], search: JoinedSearch, readings: Mapping[str, Reading], model: Model
) -> Doubles:
    """[items, C]: P(category | item); what is beyond the columns of the search is left out."""
    column = _columns(search, model)
    table = np.zeros((len(items), len(column)))
    for row, item in enumerate(items):
        if item.category in column:
            table[row, column[item.category]] = 1.0
    unnamed = [row for row, item in enumerate(items) if not item.category]
    names = _names(search, model) if unnamed else ()
    if names:
        known = [readings[item_text(items[row], model.template)] for row in unnamed]
        logits = _logits(known, names, readings, model)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        kept = [index for index, name in enumerate(names) if name in column]
        table[np.ix_(unnamed, [column[names[index]] for index in kept])] = shares[:, kept]
    return table


def _columns(search: JoinedSearch, model: Model) -> dict[str, int]:
    """Which column is whose: the categories that candidates name, and those that others may be."""
    named = {entry.item.category for entry in search.entries if entry.item.category}
    open_to = () if all(entry.item.category for entry in search.entries) else _names(search, model)
    return {name: index for index, name in enumerate(dict.fromkeys((*sorted(named), *open_to)))}


def _names(search: JoinedSearch, model: Model) -> tuple[str, ...]:
    """The categories that an item may belong to; a head knows its own, whatever the event names."""
    if model.category_head:
        return model.categories
    return (model.categories or search.categories) if search.categories else ()


def _logits(
    items: Sequence[Reading], names: Sequence[str], readings: Mapping[str, Reading], model: Model
) -> Doubles:
    """[items, names]: row by row, so that a row's values depend on that row alone."""
    if model.category_head:
        return np.stack([one.categories for one in items if one.categories is not None]).astype(
            np.float64
        )
    directions = np.stack([readings[category_text(name, model.template)].vector for name in names])
    cosine = np.stack([(directions * one.vector).sum(axis=1) for one in items])
    return cosine.astype(np.float64) / TEMPERATURE
