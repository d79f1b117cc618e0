"""What a model's lists are worth to people: every dial of every method, on human labels.

The lists come from `worker.ranking.rerank`, so what is judged is what is served. For each query the
first ten places are measured; intervals are bootstraps over queries. Of all queries together it is
measured what their lists make of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import msgspec
import numpy as np
from rank_bm25 import BM25Okapi

from training.fairness import Lists, Spread, pools
from training.judgments import RELEVANT, GradedQuery
from worker.ranking.diversify import METHODS
from worker.ranking.join import Dials, JoinedSearch, join
from worker.ranking.judge import cosines
from worker.ranking.metrics import (
    alpha_ndcg,
    average_precision,
    err,
    err_ia,
    f1,
    ild,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
    roc_auc,
    s_recall,
)
from worker.ranking.model import Doubles, Model, Vector
from worker.ranking.rerank import embed, rerank
from worker.ranking.rules import words
from worker.ranking.spelling import spelled
from worker.ranking.text import item_text, query_text, texts

DEPTH: Final = 10
DIALS: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
MEASURES: Final = (
    *("ndcg", "alpha_ndcg", "s_recall", "ild"),
    *("err", "map", "mrr", "precision", "recall", "f1", "roc_auc", "err_ia"),
)
SHUFFLES: Final = 10
RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Judged:
    """A graded query with what is measured of its lists, by item id."""

    query: GradedQuery
    gains: Mapping[str, float]
    subtopics: Mapping[str, frozenset[str]]
    vectors: Mapping[str, Vector]
    likeness: Mapping[str, float]  # cosine with the query; 0 for an item or a query without text

    def measure(self, order: Sequence[str]) -> tuple[float, ...]:
        """MEASURES of a list of item ids. NaN: where no candidate has a subtopic, those of
        subtopics; where none is relevant, those that count what is."""
        pool, shown = list(self.subtopics.values()), [self.subtopics[item] for item in order]
        covers = any(pool)
        gains = [self.gains[item] for item in order]
        hits = [gain >= RELEVANT for gain in gains]
        total = sum(gain >= RELEVANT for gain in self.gains.values())
        return (
            ndcg(gains, list(self.gains.values()), DEPTH),
            alpha_ndcg(shown, pool, DEPTH) if covers else np.nan,
            s_recall(shown, pool, DEPTH) if covers else np.nan,
            ild([self.vectors[item] for item in order[:DEPTH] if item in self.vectors]),
            err(gains, DEPTH),
            average_precision(hits, total, DEPTH) if total else np.nan,
            reciprocal_rank(hits, DEPTH) if total else np.nan,
            precision(hits, DEPTH) if total else np.nan,
            recall(hits, total, DEPTH) if total else np.nan,
            f1(hits, total, DEPTH) if total else np.nan,
            roc_auc(hits[:DEPTH], total, len(self.gains)),
            err_ia(shown, pool, DEPTH) if covers else np.nan,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One way to order the lists, and what each measure made of each query's list."""

    method: str
    dial: float | None  # None for a baseline, which has no dial
    values: Doubles  # [queries, measures]
    lists: tuple[Lists, ...] = ()  # the first places of each query; several where they are drawn


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries and its 95 % interval; NaN where no query says anything."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """A run in numbers: each measure, and its paired change against the order by relevance."""

    method: str
    dial: float | None
    values: Mapping[str, Estimate]
    changes: Mapping[str, Estimate]
    catalogue: tuple[Spread, ...] = ()  # one for each way to tell groups apart


Peers: TypeAlias = Callable[[Sequence[Judged], Model, Sequence[float]], Iterable[Run]]


def nobody(_judged: Sequence[Judged], _model: Model, _dials: Sequence[float]) -> Iterable[Run]:
    """No peers."""
    return ()


def evaluate(
    queries: Sequence[GradedQuery],
    model: Model,
    methods: Sequence[str] = tuple(METHODS),
    dials: Sequence[float] = DIALS,
    seed: int = 0,
    peers: Peers = nobody,
) -> list[Row]:
    """The baselines, each method at each dial, then the peers; changes are against dial 0."""
    judged = judge(queries, model)
    reference = served(judged, model, methods[0], 0.0)
    runs = [
        *baselines(judged, seed),
        *(served(judged, model, method, dial) for method in methods for dial in dials),
        *peers(judged, model, dials),
    ]
    everything = pools(queries)
    return [
        replace(summary(run, reference, seed), catalogue=(everything.spread(run.lists, DEPTH),))
        for run in runs
    ]


def judge(queries: Sequence[GradedQuery], model: Model) -> list[Judged]:
    """The queries with the vectors that `model` gives to their texts."""
    searches = [spelled(_joined(query, Dials(diversity=0.0)), model) for query in queries]
    known = embed(texts(searches, model.template, model.categories), model)
    judged = []
    for query, search in zip(queries, searches, strict=True):
        text = query_text(search, model.template)
        asked = None if text is None else known[text]
        vectors = {
            entry.item.item_id: known[item_text(entry.item, model.template)]
            for entry in search.entries
        }
        likeness = {
            item: 0.0
            if asked is None or item not in vectors
            else float(cosines(vectors[item][np.newaxis], asked)[0])
            for item in query.gains()
        }
        judged.append(Judged(query, query.gains(), query.subtopics(), vectors, likeness))
    return judged


def served(judged: Sequence[Judged], model: Model, method: str, dial: float) -> Run:
    """The lists as the worker would serve them."""
    dials = Dials(method=method, diversity=dial)
    lists = rerank([_joined(one.query, dials) for one in judged], model)
    orders = ([item.item_id for item in ranked.items] for ranked in lists)
    return measured(judged, method, dial, orders)


def measured(
    judged: Sequence[Judged], method: str, dial: float | None, orders: Iterable[Sequence[str]]
) -> Run:
    """What lists of item ids are worth, in the order of the queries."""
    orders = list(orders)
    shown = [tuple(order[:DEPTH]) for order in orders]
    return Run(method, dial, _measured(judged, orders), (shown,))


def baselines(judged: Sequence[Judged], seed: int) -> Iterator[Run]:
    """What any list must be held against: chance, the words alone, and the vectors alone."""
    chance = np.random.default_rng(seed)
    shuffles = [
        [chance.permutation(list(one.gains)).tolist() for one in judged] for _ in range(SHUFFLES)
    ]
    drawn = [measured(judged, "random", None, orders) for orders in shuffles]
    values = np.mean([run.values for run in drawn], axis=0)
    yield Run("random", None, values, tuple(lists for run in drawn for lists in run.lists))
    yield measured(judged, "bm25", None, map(_best_first, _lexical(judged)))
    yield measured(judged, "cosine", None, [_best_first(one.likeness) for one in judged])


def _lexical(judged: Sequence[Judged]) -> Iterator[dict[str, float]]:
    """BM25 of each candidate's title, by rank-bm25, with idf over all titles of the set."""
    items = [item for one in judged for item in one.query.event.candidates]
    bm25 = BM25Okapi([words(item.title or "") for item in items])
    start = 0
    for one in judged:
        rows = range(start, start := start + len(one.gains))
        scores = bm25.get_batch_scores(words(one.query.event.user_query), list(rows))
        yield dict(zip(one.gains, scores, strict=True))


def summary(run: Run, reference: Run, seed: int) -> Row:
    """The means of a run and of its paired differences to `reference`, with their intervals."""
    columns = zip(MEASURES, run.values.T, (run.values - reference.values).T, strict=True)
    estimates = {
        name: (interval(values, seed), interval(changes, seed)) for name, values, changes in columns
    }
    return Row(
        run.method,
        run.dial,
        values={name: value for name, (value, _) in estimates.items()},
        changes={name: change for name, (_, change) in estimates.items()},
    )


def interval(values: Doubles, seed: int) -> Estimate:
    """The mean and its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    NaN is left out. Equal seeds draw the same queries, whatever is measured.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(float(values.mean()), float(low), float(high))


def _joined(query: GradedQuery, dials: Dials) -> JoinedSearch:
    event = msgspec.structs.replace(query.event, k=DEPTH, offset=None, policy=None)
    return join(event, query.tables, dials, diversity=dials.diversity)


def _measured(judged: Sequence[Judged], orders: Sequence[Sequence[str]]) -> Doubles:
    values = [one.measure(order) for one, order in zip(judged, orders, strict=True)]
    return np.array(values, dtype=np.float64).reshape(len(values), len(MEASURES))


def _best_first(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda item: -scores[item])
