"""The first stage, and the end of both: what is known of one search's candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from worker.ranking.categories import brands, category_probabilities, category_taste
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Floats, Model, Reading, Scores, Vector
from worker.ranking.text import item_text, query_text

SATURATION = 1e-12  # probabilities are kept this far from 0 and 1 before a logit is taken


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known so far of the n candidates of a search, aligned with them."""

    vectors: Floats  # [n, d] unit length
    cosine: Doubles  # [n] with the query, or with the taste where the query is empty
    taste: Doubles  # [n] what the user's taste adds to the cosine
    logits: Doubles | None  # [n] of P(relevant); None: there is neither a query nor a taste
    pair_count: int = 0  # how many of the n the pair model read
    pair_share: float = 0.0  # how far its word counts


def first_stage(search: JoinedSearch, readings: Mapping[str, Reading], model: Model) -> Judged:
    """The calibrated cosine of every candidate.

    The taste moves items relative to each other: its cosine is centred over the candidates, so that
    the level, which the calibration was fitted to, stays the query's.
    """
    dimensions = next(iter(readings.values())).vector.shape[0] if readings else 0
    items = np.empty((len(search.entries), dimensions), dtype=np.float32)
    for row, entry in enumerate(search.entries):
        items[row] = readings[item_text(entry.item, model.template)].vector
    query = query_text(search, model.template)
    direction = _taste(search, readings, model)
    taste = np.zeros(len(items))
    if query is not None:
        cosine = cosines(items, readings[query].vector)
        if direction is not None and len(items):
            liking = cosines(items, direction)
            taste = search.dials.profile_weight * (liking - liking.mean())
    elif direction is not None:
        cosine = cosines(items, direction)
    else:
        return Judged(items, taste, taste, logits=None)
    return Judged(items, cosine, taste, model.calibration.logits(cosine + taste))


def conclude(
    search: JoinedSearch, judged: Judged, readings: Mapping[str, Reading], model: Model
) -> Scores:
    """What the list is made of."""
    if judged.logits is None:
        raw, relevance = _engine_order(search), None
    else:
        raw = mixed(judged.logits, search)
        relevance = sigmoid(raw)
    return Scores(
        raw=raw,
        relevance=relevance,
        vectors=judged.vectors,
        categories=category_probabilities(search, readings, model),
        brands=brands(search),
        pair_count=judged.pair_count,
        pair_share=judged.pair_share,
        taste=category_taste(search, readings, model),
    )


def sigmoid(logits: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def cosines(items: Floats, vector: Vector) -> Doubles:
    """Row by row, so that a row's value depends on that row alone, whatever surrounds it."""
    return np.asarray((items * vector).sum(axis=1), dtype=np.float64)


def engine_share(search: JoinedSearch, missing: float = 0.0, even: float = 1.0) -> Doubles:
    """[n] the engine's scores of the candidates, moved to [0, 1] over the event.

    `missing` where a candidate has none; `even` where all that have one have the same.
    """
    scores = np.array([_engine_score(entry.item.score) for entry in search.entries])
    present = scores > -np.inf
    if not present.any():
        return np.full(len(scores), missing)
    low, high = scores[present].min() / 2, scores[present].max() / 2  # halves cannot overflow
    if high == low:
        return np.where(present, even, missing)
    return np.where(present, (np.where(present, scores, 0) / 2 - low) / (high - low), missing)


def mixed(logits: Doubles, search: JoinedSearch) -> Doubles:
    """The engine's score, as far as the policy asks for it, mixed with P(relevant)."""
    weight = search.dials.engine_weight
    if weight == 0.0 or all(entry.item.score is None for entry in search.entries):
        return logits
    share = (1.0 - weight) * sigmoid(logits) + weight * engine_share(search)
    share = np.clip(share, SATURATION, 1.0 - SATURATION)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float64)


def best_first(search: JoinedSearch, strength: Doubles) -> list[int]:
    """The candidates, strongest first; ties by engine score, then event position."""
    scores = [_engine_score(entry.item.score) for entry in search.entries]
    return sorted(range(len(scores)), key=lambda row: (-strength[row], -scores[row], row))


def _engine_score(score: float | None) -> float:
    return -np.inf if score is None else score


def _taste(search: JoinedSearch, readings: Mapping[str, Reading], model: Model) -> Vector | None:
    """The direction of the items that the user acted on, by their weights."""
    if not search.history:
        return None
    most = max(weight for _, weight in search.history)  # old tastes fade; the direction stays
    total = np.sum(
        [
            weight / most * readings[item_text(item, model.template)].vector.astype(np.float64)
            for item, weight in search.history
        ],
        axis=0,
    )
    length = float(np.sqrt((total * total).sum()))
    return np.asarray(total / length, dtype=np.float32) if length > 0 else None


def _engine_order(search: JoinedSearch) -> Doubles:
    """Where only the engine's order is known, an item's Borda share is what it is worth.

    The logit of 1 - (i + 1/2) / n for the i-th by the engine's score, then by event position.
    """
    count = len(search.entries)
    share = np.empty(count)
    share[best_first(search, np.zeros(count))] = 1.0 - (np.arange(count) + 0.5) / max(count, 1)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float64)
