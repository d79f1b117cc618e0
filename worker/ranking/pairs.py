"""The second stage: the pair model reads query and item together, for the best of each search.

All searches' pairs are packed together; each search's share of them, and what is made of it, depend
on that search alone. Training asks `evidence` for what it fits the blend to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from worker.ranking.join import JoinedSearch
from worker.ranking.judge import Judged, best_first, engine_share, mixed
from worker.ranking.model import Doubles, Floats, Model, PairModel, TokenBudget
from worker.ranking.text import pair_texts
from worker.ranking.tokens import pack_pairs

MIDDLE = 0.5  # the engine's share where it says nothing


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a blend weighs besides the pair's logit, for some candidates of a search: [m] each."""

    cosine: Doubles
    engine_share: Doubles  # in [0, 1]; 1/2 where the engine says nothing
    features: dict[str, Doubles]  # by name; NaN where a candidate does not carry it


def second_stage(
    searches: Sequence[JoinedSearch], judged: Sequence[Judged], model: Model
) -> list[Judged]:
    """The judgements, with blended logits for the candidates that the pair model read."""
    pairs = model.pairs
    if pairs is None:
        return list(judged)
    shares = [
        pairs.share(one.vectors) if pair_count(search, model) else 0.0
        for search, one in zip(searches, judged, strict=True)
    ]
    # Where it has no word there is nothing to read.
    chosen = [
        rows_read(search, one, model) if share > 0.0 else []
        for search, one, share in zip(searches, judged, shares, strict=True)
    ]
    wanted = [
        pair
        for search, rows in zip(searches, chosen, strict=True)
        for pair in pair_texts(search, rows, pairs.template)
    ]
    logits = read_pairs(wanted, pairs, model.budget)
    ends = accumulate(len(rows) for rows in chosen)
    return [
        _blended(search, one, rows, logits[end - len(rows) : end], share, model)
        if pair_count(search, model)
        else one
        for search, one, rows, end, share in zip(
            searches, judged, chosen, ends, shares, strict=True
        )
    ]


def pair_count(search: JoinedSearch, model: Model) -> int:
    """How many candidates the pair model reads at most; none where there is no query, or no pair
    model."""
    if model.pairs is None or not search.event.user_query.strip():
        return 0
    return min(len(search.entries), search.dials.pair_candidates)


def read_pairs(pairs: Sequence[tuple[str, str]], model: PairModel, budget: TokenBudget) -> Floats:
    """The pair model's logit of every (query, item) text: remembered, or in token batches. [n]."""
    known = {pair: logit for pair in pairs if (logit := model.logits.get(pair)) is not None}
    unseen = [pair for pair in dict.fromkeys(pairs) if pair not in known]
    for batch in pack_pairs(unseen, model.tokenize, budget):
        for row, logit in zip(batch.rows, model.score(batch).tolist(), strict=True):
            known[unseen[row]] = model.logits[unseen[row]] = logit
    return np.array([known[pair] for pair in pairs], dtype=np.float32)


def evidence(
    search: JoinedSearch, judged: Judged, rows: Sequence[int], names: Iterable[str]
) -> Evidence:
    """What is known besides the pair's logit of the candidates `rows`, in that order."""
    chosen = list(rows)
    features = [search.entries[row].item.features for row in chosen]
    return Evidence(
        judged.cosine[chosen],
        engine_share(search, missing=MIDDLE, even=MIDDLE)[chosen],
        {name: np.array([one.get(name, np.nan) for one in features]) for name in names},
    )


def rows_read(search: JoinedSearch, judged: Judged, model: Model) -> list[int]:
    """The candidates that the pair model reads at most, in event order: the first stage's best."""
    count = pair_count(search, model)
    if count == 0 or judged.logits is None:
        return []
    if count == len(search.entries):
        return list(range(count))
    return sorted(best_first(search, mixed(judged.logits, search))[:count])


def _blended(
    search: JoinedSearch,
    judged: Judged,
    rows: list[int],
    pair_logits: Floats,
    share: float,
    model: Model,
) -> Judged:
    """What was learned, as far as its word counts, and for the rest what the base model says.

    What was learned is the blend's logit for `rows`, and the first stage's for the others: both are
    calibrated on the same lists. The base model's is the cosine by its own calibration.
    """
    assert model.pairs is not None, "only a pair model chooses rows: a bug"
    assert judged.logits is not None, "rows are chosen where there is a query: a bug"
    blend = model.pairs.blend
    known = evidence(search, judged, rows, blend.features)
    taste = model.calibration.slope * judged.taste[rows]
    if model.pairs.template.history:
        taste = np.zeros(len(rows))  # it has read what the user did
    logits = judged.logits.copy()
    logits[rows] = taste + blend.logits(
        pair_logits, known.cosine, known.engine_share, known.features
    )
    if share < 1.0:
        assert blend.beyond is not None, "without what stands beyond a share is 1: a bug"
        untrained = blend.beyond.logits(judged.cosine + judged.taste)
        logits = share * logits + (1.0 - share) * untrained
    return replace(judged, logits=logits, pair_count=len(rows), pair_share=share)
