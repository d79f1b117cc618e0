"""Champion against challenger on the same queries, through the exported graphs and the worker's own
code: what is compared here is what would be served."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from export.bundle import BundleError
from export.session import Session, replay
from training.equity import Fairness
from training.evaluate import DEPTH, MEASURES, Run, interval, judge, served
from training.fairness import ways
from training.gate import Check, GateSettings, known
from training.judgments import GradedQuery
from training.parity import Two, parity_checks
from worker.events import SearchEvent
from worker.ranking.categories import category_probabilities
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Doubles, Model, TokenBudget
from worker.ranking.rerank import needed, read, rerank
from worker.ranking.tokens import pack, pack_pairs

NAMES: Final = {"relevance": "ndcg", "diversity": "alpha_ndcg"}  # what the gate calls a measure
ROUNDS: Final = 15  # of the clock
TIMED_ROWS: Final = 32


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a model as the worker would run it, and the session under it."""

    model: Model
    session: Session


@dataclass(frozen=True, slots=True)
class Trial:
    """Who is compared, at which settings."""

    champion: Side
    challenger: Side
    settings: GateSettings
    method: str
    diversity: float
    seed: int
    fairness: Fairness = field(default_factory=Fairness)

    def quality(self, name: str, queries: Sequence[GradedQuery]) -> list[Check]:
        """Relevance, diversity, calibration and fairness on one set, paired by query."""
        if not queries:
            return []
        runs = [
            served(judge(queries, side.model), side.model, self.method, self.diversity)
            for side in (self.champion, self.challenger)
        ]
        checks = [
            self._paired(measure, name, *(run.values[:, MEASURES.index(column)] for run in runs))
            for measure, column in NAMES.items()
        ]
        relevance = checks[0].change
        briers = (brier(queries, side.model) for side in (self.champion, self.challenger))
        checks.append(self._paired("calibration", name, *(-values for values in briers)))
        if names := self.challenger.model.categories:
            right = (hits(queries, side.model, names) for side in (self.champion, self.challenger))
            checks.append(self._paired("classification", name, *right))
        return checks + self._fair(name, queries, runs, relevance)

    def _fair(
        self,
        name: str,
        queries: Sequence[GradedQuery],
        runs: Sequence[Run],
        relevance: float | None,
    ) -> list[Check]:
        """Fairness between the groups of each way that is named, with the change of relevance."""
        beside = "" if relevance is None else f"; relevance beside it {relevance:+.4f}"
        (old,), (new,) = (run.lists for run in runs)
        two = Two(old, new, DEPTH, self.seed)
        return [
            check
            for pools in ways(queries, self.fairness)
            for check in parity_checks(pools, two, name, beside, self.settings)
        ]

    def latency(self, texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Check:
        """The challenger's graphs against the champion's on the same tokens, in turns.

        A pair graph that the champion does not have is held against its encoder: what a second
        stage costs is chosen by whoever sets its depth; what a graph costs a token is not.
        """
        ratios = {
            graph: self._ratio(graph, texts, pairs) for graph in self.challenger.session.graphs
        }
        slowest = max(ratios, key=lambda graph: ratios[graph])
        ratio, limit = ratios[slowest], self.settings.latency_ratio
        return Check(
            measure="latency",
            on=f"the {slowest} graph",
            champion=1.0,
            challenger=ratio,
            change=1.0 - ratio,
            verdict="worse" if ratio > limit else "held",
            note=f"{ratio:.2f} times the champion's time on the same tokens, at most {limit:g}",
        )

    def goldens(self) -> Check:
        """Whether the challenger still gives what the trained model gave."""
        try:
            error = replay(self.challenger.session)
        except BundleError as refusal:
            return Check(measure="goldens", on="this device", verdict="worse", note=refusal.why)
        note = f"largest difference {error:.2g}"
        return Check(measure="goldens", on="this device", verdict="held", note=note)

    def _paired(self, measure: str, name: str, old: Doubles, new: Doubles) -> Check:
        change = interval(new - old, self.seed)
        if np.isnan(change.mean):
            note = "no query says anything of it"
            return known(Check(measure=measure, on=name, note=note), 0, len(new), self.settings)
        check = Check(
            measure=measure,
            on=name,
            champion=float(np.nanmean(old)),
            challenger=float(np.nanmean(new)),
            change=change.mean,
            low=change.low,
            high=change.high,
        )
        telling = int(np.count_nonzero(~np.isnan(new - old)))
        return known(check, telling, len(new), self.settings)

    def _ratio(self, graph: str, texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> float:
        new, old = self.challenger, self.champion
        peer = graph if graph in old.session.graphs else "encoder"
        if graph == peer:
            return alternating_ratio(
                timed(new, graph, texts, pairs), timed(old, peer, texts, pairs)
            )
        joined = [" ".join(pair) for pair in pairs]
        return alternating_ratio(timed(new, graph, texts, pairs), timed(old, peer, joined, ()))


def brier(queries: Sequence[GradedQuery], model: Model) -> Doubles:
    """[queries] the mean squared difference of P(relevant) and grade (Brier 1950)."""
    searches = [
        join(
            msgspec.structs.replace(query.event, k=None, offset=None, policy=None),
            query.tables,
            Dials(diversity=0),
        )
        for query in queries
    ]
    found = []
    for query, ranked in zip(queries, rerank(searches, model), strict=True):
        gains = query.gains()
        errors = [
            (item.relevance - gains[item.item_id]) ** 2
            for item in ranked.items
            if item.relevance is not None
        ]
        found.append(np.mean(errors) if errors else np.nan)
    return np.array(found)


def hits(queries: Sequence[GradedQuery], model: Model, names: Sequence[str]) -> Doubles:
    """[queries] the share of a query's items, of those that name one of `names`, whose category
    the model tells without being told it; NaN where there is none."""
    truths = [
        [item.category if item.category in names else None for item in query.event.candidates]
        for query in queries
    ]
    tables, dials = Tables(categories=tuple(sorted(names))), Dials()
    searches = [join(_unnamed(query), tables, dials) for query in queries]
    readings = read(needed(searches, model), model)
    found = []
    for search, truth in zip(searches, truths, strict=True):
        known = model.categories or tuple(sorted(names))
        chances = category_probabilities(search, readings, model)
        asked = [truth[entry.engine_rank - 1] for entry in search.entries]
        right = [
            known[int(row.argmax())] == name
            for row, name in zip(chances, asked, strict=True)
            if name is not None
        ]
        found.append(np.mean(right) if right else np.nan)
    return np.array(found)


def timed(
    side: Side, graph: str, texts: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Callable[[], object]:
    """A call of one graph of `side`: pairs through the pair graph, texts through the encoder."""
    budget, session = TokenBudget(rows=TIMED_ROWS), side.session
    batches = (
        pack_pairs(pairs, session.tokenize_pairs, budget)
        if graph == "model"
        else pack(texts, session.tokenize, budget)
    )
    arrays = [
        {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            **({} if batch.token_type_ids is None else {"token_type_ids": batch.token_type_ids}),
        }
        for batch in batches
    ]
    return lambda: [session.run(graph, each) for each in arrays]


def alternating_ratio(new: Callable[[], object], old: Callable[[], object]) -> float:
    """The time of new's fastest round over that of old's, in turns: what else runs on the machine
    only adds to a round, and adds to both."""
    spent: dict[Callable[[], object], list[float]] = {new: [], old: []}
    for turn in range(ROUNDS + 1):
        for run in (new, old) if turn % 2 else (old, new):
            start = time.perf_counter()
            run()
            spent[run].append(time.perf_counter() - start)
    # The first round warms both.
    return min(spent[new][1:]) / min(spent[old][1:])


def _unnamed(query: GradedQuery) -> SearchEvent:
    """The query's search, its items without their categories."""
    bare = tuple(msgspec.structs.replace(item, category=None) for item in query.event.candidates)
    return msgspec.structs.replace(query.event, candidates=bare, policy=None)
