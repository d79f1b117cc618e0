"""P(category | item), and which brand it is: what an item is one of, for the diversifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
    unnamed = [row for row, entry in enumerate(search.entries) if not entry.item.category]
    names = _names(search, model) if unnamed else ()
    named = {entry.item.category for entry in search.entries if entry.item.category}
    column = {name: i for i, name in enumerate(dict.fromkeys((*sorted(named), *names)))}
    table = np.zeros((len(search.entries), len(column)))
    for row, entry in enumerate(search.entries):
        if entry.item.category:
            table[row, column[entry.item.category]] = 1.0
    if names:
        items = [item_text(search.entries[row].item, model.template) for row in unnamed]
        logits = _logits([readings[text] for text in items], names, readings, model)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        table[np.ix_(unnamed, [column[name] for name in names])] = shares
    return table


def brands(search: JoinedSearch) -> Doubles:
    """[n, B]: which brand each item names, upper and lower case aside."""
    names = [(entry.item.brand or "").strip().casefold() for entry in search.entries]
    column = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
    table = np.zeros((len(names), len(column)))
    for row, name in enumerate(names):
        if name:
            table[row, column[name]] = 1.0
    return table


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
