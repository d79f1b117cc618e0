"""What the demo measured: each search and its list, judged by the simulated truth. No I/O."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles
from typing import Final

from worker.events import Item, RankedList
from worker.ranking.metrics import alpha_ndcg, ndcg
from worker.shop.visits import Shop, Visit

TOP: Final = 10
RELEVANT: Final = 2 / 3  # of the highest grade: from here an item's brand and category count
RECENT: Final = 8
AFTERGLOW_SECONDS: Final = 0.5  # lists that come so soon after a kill are the dead worker's own


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the first ten are: by the truth, and in how much they differ."""

    ndcg: float
    alpha_ndcg: float
    brands: float
    categories: float
    products: float  # distinct group_ids: near copies count once


@dataclass(frozen=True, slots=True)
class Answered:
    """One search with its list, as the view shows it."""

    visit: Visit
    ranked: RankedList
    seconds: float
    engine: Quality
    ours: Quality


@dataclass(frozen=True, slots=True)
class Judged:
    """What is kept of a list that a model ranked."""

    model: str | None
    dial: float
    engine: Quality
    ours: Quality


@dataclass(slots=True)
class Tally:
    """Counts and qualities so far."""

    shop: Shop
    planned: int
    sent: dict[str, tuple[Visit, float]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)  # query_id -> lists received
    dead: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)  # of searches that met no outage
    degraded: int = 0
    swept: set[str] = field(default_factory=set)  # in flight when the worker was killed
    outages: list[float] = field(default_factory=list)  # seconds from the kill to the next list
    busy_seconds: float = 0.0  # while any search was open
    judged: dict[str, Judged] = field(default_factory=dict)  # query_id -> what became of it
    recent: deque[Answered] = field(default_factory=lambda: deque(maxlen=RECENT))
    _busy_since: float = 0.0
    _killed_at: float | None = None

    @property
    def lost(self) -> int:
        """Searches that were neither answered nor given up in the open."""
        return len(self.sent) - len(self.answers) - len(self.dead - self.answers.keys())

    @property
    def duplicates(self) -> int:
        return sum(self.answers.values()) - len(self.answers)

    @property
    def lists_per_second(self) -> float:
        return len(self.answers) / max(self.busy_seconds, 1e-9) if self.answers else 0.0

    def send(self, visit: Visit, now: float) -> None:
        """A search is on its way."""
        if not self.lost:
            self._busy_since = now
        self.sent[visit.event.query_id] = (visit, now)
        if self._killed_at is not None:
            self.swept.add(visit.event.query_id)

    def kill(self, now: float) -> None:
        """The worker is gone; what is open now, or sent before the next list, met an outage."""
        self._killed_at = now
        self.swept.update(self.sent.keys() - self.answers.keys())

    def answer(self, ranked: RankedList, now: float) -> Answered | None:
        """A list has come; None if it is a duplicate or of nobody's asking."""
        asked = self.sent.get(ranked.query_id)
        if asked is None:
            return None
        self.answers[ranked.query_id] = self.answers.get(ranked.query_id, 0) + 1
        if self.answers[ranked.query_id] > 1:
            return None
        visit, sent_at = asked
        self.busy_seconds += now - self._busy_since
        self._busy_since = now
        if self._killed_at is not None and now - self._killed_at > AFTERGLOW_SECONDS:
            self.outages.append(now - self._killed_at)
            self._killed_at = None
        if ranked.query_id not in self.swept:
            self.seconds.append(now - sent_at)
        return self._judge(visit, ranked, now - sent_at)

    def _judge(self, visit: Visit, ranked: RankedList, seconds: float) -> Answered:
        proposed = [candidate.item_id for candidate in visit.event.candidates]
        truth = {item_id: self.shop.relevance(visit, item_id) for item_id in proposed}
        engine = quality(proposed, truth, self.shop.catalogue)
        ours = quality([item.item_id for item in ranked.items], truth, self.shop.catalogue)
        if ranked.degraded:
            self.degraded += 1
        else:
            one = Judged(ranked.model, ranked.diversity, engine, ours)
            self.judged[ranked.query_id] = one
        answered = Answered(visit, ranked, seconds, engine, ours)
        self.recent.appendleft(answered)
        return answered

    def latency_ms(self, share: float, latest: int = 0) -> float:
        """A quantile of produce-to-list times, outages apart: of all, or of the latest few."""
        seconds = self.seconds[-latest:]
        if len(seconds) < 2:
            return 1_000 * sum(seconds)
        return 1_000 * quantiles(seconds, n=100, method="inclusive")[round(share * 100) - 1]

    def curve(self, model: str | None = None) -> list[tuple[float, int, Quality, Quality]]:
        """(dial, lists, the engine's, ours): the mean quality of each order, of one model's lists
        where `model` names one."""
        rows: defaultdict[float, list[Judged]] = defaultdict(list)
        for one in self.judged.values():
            if model is None or one.model == model:
                rows[one.dial].append(one)
        return [
            (dial, len(row), mean([one.engine for one in row]), mean([one.ours for one in row]))
            for dial, row in sorted(rows.items())
        ]


def quality(
    ranked: Sequence[str], truth: Mapping[str, float], items: Mapping[str, Item]
) -> Quality:
    """Judge a list. Subtopics are brand and category of what is relevant."""
    top = [items[item_id] for item_id in ranked[:TOP]]
    return Quality(
        ndcg=ndcg([truth[item_id] for item_id in ranked], list(truth.values()), TOP),
        alpha_ndcg=alpha_ndcg(
            [_subtopics(item_id, truth, items) for item_id in ranked],
            [_subtopics(item_id, truth, items) for item_id in truth],
            TOP,
        ),
        brands=len({item.brand for item in top if item.brand}),
        categories=len({item.category for item in top if item.category}),
        products=len({item.group_id or item.item_id for item in top}),
    )


def mean(qualities: Sequence[Quality]) -> Quality:
    """The mean of each measure."""
    return Quality(
        ndcg=fmean(q.ndcg for q in qualities),
        alpha_ndcg=fmean(q.alpha_ndcg for q in qualities),
        brands=fmean(q.brands for q in qualities),
        categories=fmean(q.categories for q in qualities),
        products=fmean(q.products for q in qualities),
    )


def _subtopics(
    item_id: str, truth: Mapping[str, float], items: Mapping[str, Item]
) -> frozenset[str]:
    if truth[item_id] < RELEVANT:
        return frozenset()
    item = items[item_id]
    named = (("brand", item.brand), ("category", item.category))
    return frozenset(f"{kind}: {name}" for kind, name in named if name)
