"""A draft bundle before its judges: every check of the gate, and the tables of its report.

What is judged is what ships: the exported graphs, through the worker's own `rerank`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from export.session import Session
from training import evaluate
from training.config import Config
from training.evaluate import DEPTH, Row
from training.fairness import ways
from training.gate import Check
from training.judgments import GradedQuery
from training.trial import Side, Trial
from worker.ranking.bundled import Bundled
from worker.ranking.model import Model

DIALS: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
TIMED: Final = 64  # texts and pairs that the clock is held to

Extra = Callable[[Model, Model], Sequence[Check]]
"""Checks that only the caller knows of: (champion, challenger) -> checks."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the judges found: the gate's checks, and of each set of queries its table."""

    checks: tuple[Check, ...]
    tables: Mapping[str, tuple[Row, ...]]
    counts: Mapping[str, int]  # queries a set


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the judges sit: the bundles that stand beside the draft, and the rules."""

    base: Side  # the zero-shot bundle of the base model
    champion: Side
    config: Config

    @property
    def models(self) -> tuple[Model, Model]:
        """The base's, and what serves."""
        return self.base.model, self.champion.model


def side(session: Session) -> Side:
    """A session as the worker would run it."""
    return Side(Bundled(session), session)


def assess(
    challenger: Session,
    bench: Bench,
    sets: Mapping[str, Sequence[GradedQuery]],
    say: Callable[[str], None],
    extra: Extra = lambda _champion, _challenger: (),
) -> Assessment:
    """Judge the challenger, a draft with its constants, against the champion on every set."""
    trial = Trial(
        champion=bench.champion,
        challenger=side(challenger),
        settings=bench.config.gate,
        method=bench.config.judge.method,
        diversity=bench.config.judge.diversity,
        seed=bench.config.recipe.seed,
        fairness=bench.config.recipe.fairness,
    )
    checks = [trial.goldens()]
    if checks[0].verdict == "worse":  # its numbers mean nothing
        return Assessment(tuple(checks), {}, {})
    tables: dict[str, tuple[Row, ...]] = {}
    for name, queries in sets.items():
        if queries:
            say(f"judging on {len(queries)} queries of {name}")
            checks += trial.quality(name, queries)
            tables[name] = tuple(_table(queries, trial, bench.base))
    if any(sets.values()):
        checks.append(trial.latency(*_words(sets)))
    checks += extra(trial.champion.model, trial.challenger.model)
    return Assessment(tuple(checks), tables, {name: len(each) for name, each in sets.items()})


def _table(queries: Sequence[GradedQuery], trial: Trial, base: Side) -> Iterator[Row]:
    """Chance, BM25, cosine, the base model and the champion beside the draft at every dial.

    Changes are against the base model in its order by relevance.
    """
    plain = evaluate.judge(queries, base.model)
    zero_shot = evaluate.served(plain, base.model, trial.method, 0.0)
    runs = [*evaluate.baselines(plain, trial.seed), replace(zero_shot, method="zero-shot")]
    sides = {"zero-shot + dial": base, "champion": trial.champion, "challenger": trial.challenger}
    if trial.champion is base:
        del sides["champion"]
    for name, one in sides.items():
        judged = evaluate.judge(queries, one.model)
        for dial in DIALS[1:] if one is base else DIALS:
            run = evaluate.served(judged, one.model, trial.method, dial)
            runs.append(replace(run, method=name))
    pools = ways(queries, trial.fairness)
    for run in runs:
        spreads = tuple(each.spread(run.lists, DEPTH) for each in pools)
        yield replace(evaluate.summary(run, zero_shot, trial.seed), catalogue=spreads)


def _words(
    sets: Mapping[str, Sequence[GradedQuery]],
) -> tuple[list[str], list[tuple[str, str]]]:
    """Titles, and pairs of query and title, to hold the clock to."""
    pairs = [
        (query.event.user_query, item.title)
        for queries in sets.values()
        for query in queries
        for item in query.event.candidates
        if item.title
    ]
    step = max(1, len(pairs) // TIMED)
    chosen = list(islice(pairs, 0, None, step))[:TIMED]
    return [title for _, title in chosen], chosen
