"""How much of a model's order is lost where texts change and what is relevant does not.

The lists come from `worker.ranking.rerank` at dial 0, so what is judged is what is served. Of each
perturbation only the queries are measured whose texts it changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluate import MEASURES, Estimate, Run, interval, judge, served
from training.judgments import GradedQuery
from training.perturb import PERTURBATIONS
from worker.ranking.diversify import METHODS
from worker.ranking.metrics import rbo
from worker.ranking.model import Doubles, Model

PERSISTENCE: Final = 0.9  # RBO's p: the first ten places have 86 % of the weight


@dataclass(frozen=True, slots=True)
class Shaken:
    """What a perturbation did to the lists of the queries that it changed."""

    perturbation: str
    changed: int  # queries
    clean: Estimate  # nDCG@10 of their lists as they were
    perturbed: Estimate
    loss: Estimate  # clean - perturbed, paired by query
    overlap: Estimate  # RBO@10 of the two lists; 1 where the order stayed


def shake(queries: Sequence[GradedQuery], model: Model, seed: int = 0) -> list[Shaken]:
    """Every perturbation, measured; equal seeds change the same texts in the same way."""
    clean = _served(queries, model)
    return [_shaken(name, queries, clean, model, seed) for name in PERTURBATIONS]


def _shaken(
    name: str, queries: Sequence[GradedQuery], clean: Run, model: Model, seed: int
) -> Shaken:
    perturbed = [PERTURBATIONS[name](query, seed) for query in queries]
    rows = [row for row, query in enumerate(queries) if perturbed[row] != query]
    after = _served([perturbed[row] for row in rows], model)
    were, are = _ndcg(clean)[rows], _ndcg(after)
    (before,), (now,) = clean.lists, after.lists
    alike = [rbo(before[row], shown, PERSISTENCE) for row, shown in zip(rows, now, strict=True)]
    return Shaken(
        perturbation=name,
        changed=len(rows),
        clean=interval(were, seed),
        perturbed=interval(are, seed),
        loss=interval(were - are, seed),
        overlap=interval(np.array(alike), seed),
    )


def _served(queries: Sequence[GradedQuery], model: Model) -> Run:
    return served(judge(queries, model), model, next(iter(METHODS)), 0.0)


def _ndcg(run: Run) -> Doubles:
    return run.values[:, MEASURES.index("ndcg")]
