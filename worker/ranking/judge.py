"""Vectors -> what is known of one search's candidates: relevance, and P(category | item)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Floats, Model, Scores, Vector
from worker.ranking.text import category_text, item_text, query_text

CATEGORY_TEMPERATURE = 0.05
"""Softmax temperature of cosines with category names (as CLIP's logit scale, Radford et al. 2021,
section 2.3, there learned; here chosen for names of a few words)."""
SATURATION = 1e-12  # probabilities are kept this far from 0 and 1 before a logit is taken


def judge(search: JoinedSearch, vectors: Mapping[str, Vector], model: Model) -> Scores:
    """Score the candidates of `search` from the vectors of its texts."""
    dimensions = next(iter(vectors.values())).shape[0] if vectors else 0
    items = np.empty((len(search.entries), dimensions), dtype=np.float32)
    for row, entry in enumerate(search.entries):
        items[row] = vectors[item_text(entry.item, model.template)]
    logits = _logits(search, items, vectors, model)
    if logits is None:
        raw, relevance = _engine_order(search), None
    else:
        raw = _blended(logits, search)
        relevance = sigmoid(raw)
    categories = _category_probabilities(search, items, vectors, model)
    return Scores(raw, relevance, items, categories, _brands(search))


def sigmoid(logits: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def cosines(items: Floats, vector: Vector) -> Doubles:
    """Row by row, so that a row's value depends on that row alone, whatever surrounds it."""
    return np.asarray((items * vector).sum(axis=1), dtype=np.float64)


def engine_share(search: JoinedSearch) -> Doubles:
    """The engine's scores of the candidates, moved to [0, 1]; 0 where there is none."""
    scores = np.array([_engine_score(entry.item.score) for entry in search.entries])
    present = scores > -np.inf
    if not present.any():
        return np.zeros(len(scores))
    low, high = scores[present].min() / 2, scores[present].max() / 2  # halves cannot overflow
    if high == low:
        return present.astype(np.float64)
    return np.where(present, (np.where(present, scores, 0) / 2 - low) / (high - low), 0.0)


def _engine_score(score: float | None) -> float:
    return -np.inf if score is None else score


def _logits(
    search: JoinedSearch, items: Floats, vectors: Mapping[str, Vector], model: Model
) -> Doubles | None:
    """The calibrated logit of relevance; None where there is neither a query nor a profile.

    The profile moves items relative to each other: its cosine is centred over the candidates, so
    that the level, which the calibration was fitted to, stays the query's.
    """
    query = query_text(search, model.template)
    taste = _taste(search, vectors, model)
    if query is not None:
        cosine = cosines(items, vectors[query])
        if taste is not None and len(items):
            liking = cosines(items, taste)
            cosine = cosine + search.dials.profile_weight * (liking - liking.mean())
    elif taste is not None:
        cosine = cosines(items, taste)
    else:
        return None
    return model.calibration.slope * cosine + model.calibration.intercept


def _taste(search: JoinedSearch, vectors: Mapping[str, Vector], model: Model) -> Vector | None:
    """The direction of the items that the user acted on, by their weights."""
    if not search.history:
        return None
    most = max(weight for _, weight in search.history)  # old tastes fade; the direction stays
    total = np.sum(
        [
            weight / most * vectors[item_text(item, model.template)].astype(np.float64)
            for item, weight in search.history
        ],
        axis=0,
    )
    length = float(np.sqrt((total * total).sum()))
    return np.asarray(total / length, dtype=np.float32) if length > 0 else None


def _blended(logits: Doubles, search: JoinedSearch) -> Doubles:
    """The engine's score, as far as the policy asks for it, mixed with P(relevant)."""
    weight = search.dials.engine_weight
    if weight == 0.0 or all(entry.item.score is None for entry in search.entries):
        return logits
    mixed = (1.0 - weight) * sigmoid(logits) + weight * engine_share(search)
    mixed = np.clip(mixed, SATURATION, 1.0 - SATURATION)
    return np.asarray(np.log(mixed / (1.0 - mixed)), dtype=np.float64)


def _engine_order(search: JoinedSearch) -> Doubles:
    """Where only the engine's order is known, an item's Borda share is what it is worth.

    The logit of 1 - (i + 1/2) / n for the i-th by the engine's score, then by event position.
    """
    scores = [_engine_score(entry.item.score) for entry in search.entries]
    best_first = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    share = np.empty(len(scores))
    share[best_first] = 1.0 - (np.arange(len(scores)) + 0.5) / max(len(scores), 1)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float64)


def _brands(search: JoinedSearch) -> Doubles:
    """Which brand each item names, upper and lower case aside."""
    names = [(entry.item.brand or "").strip().casefold() for entry in search.entries]
    column = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
    table = np.zeros((len(names), len(column)))
    for row, name in enumerate(names):
        if name:
            table[row, column[name]] = 1.0
    return table


def _category_probabilities(
    search: JoinedSearch, items: Floats, vectors: Mapping[str, Vector], model: Model
) -> Doubles:
    """P(category | item): 1 for the category that an item names, else by the cosine with names.

    Where there are no names to compare with, an item without a category has a row of zeros.
    """
    names = (model.categories or search.categories) if search.categories else ()
    named = {entry.item.category for entry in search.entries if entry.item.category}
    column = {name: i for i, name in enumerate(dict.fromkeys((*sorted(named), *names)))}
    table = np.zeros((len(search.entries), len(column)))
    unnamed = [row for row, entry in enumerate(search.entries) if not entry.item.category]
    for row, entry in enumerate(search.entries):
        if entry.item.category:
            table[row, column[entry.item.category]] = 1.0
    if names and unnamed:
        directions = np.stack([vectors[category_text(name, model.template)] for name in names])
        cosine = np.stack([cosines(directions, items[row]) for row in unnamed])
        odds = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / CATEGORY_TEMPERATURE)
        table[np.ix_(unnamed, [column[name] for name in names])] = odds / odds.sum(
            axis=1, keepdims=True
        )
    return table
