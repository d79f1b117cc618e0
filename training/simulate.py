"""Searches, the lists that a model answers, and what users with known tastes do with them.

Truth to learn against and to test against: who would click what is known, and so is the chance
that a place is looked at. What comes out is a function of the source of visits (`visitors`), the
rank function, the settings and the numbers of the visits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Annotated, Final, NamedTuple, Protocol, TypeAlias

import msgspec
from msgspec import Meta, Struct

from worker import codec
from worker.events import Behaviour, Item, RankedList, SearchEvent
from worker.ranking.explore import explore
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Model
from worker.ranking.rerank import rerank
from worker.shop.clicks import ClickModel
from worker.shop.drift import Drift
from worker.shop.habits import Habits, Page, react

Rank: TypeAlias = Callable[[Sequence[SearchEvent]], Sequence[RankedList]]
"""One list a search, in their order, without exploration: that is added here, visit by visit."""

BATCH: Final = 64  # visits that are ranked together; none sees what the others of its batch did
ANSWERED: Final = timedelta(milliseconds=20)  # after the search
SEEN: Final = timedelta(milliseconds=100)
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class SimulateSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people come, look and click. Times are synthetic: none is read from a clock."""

    seed: Annotated[int, Meta(description="of everything that chance decides")] = 0
    visits: Annotated[int, Meta(ge=0, description="searches of a round")] = 20_000
    start: Annotated[datetime, Meta(tz=True, description="when visit 0 comes")] = datetime(
        2026, 1, 1, tzinfo=UTC
    )
    visits_per_day: Annotated[float, Meta(gt=0, description="how fast the others follow")] = 2_000.0
    page: Annotated[
        int, Meta(ge=1, le=400, description="items that are shown, of all candidates")
    ] = 10
    explore: Annotated[Share, Meta(description="share of neighbours that are up for a swap")] = 0.2
    eta: Annotated[float, Meta(ge=0, description="P(examined) at position k is (1 / k) ** eta")] = (
        1.0
    )
    noise: Annotated[
        Share, Meta(description="P(click | examined) of what is not relevant at all")
    ] = 0.1
    most: Annotated[Share, Meta(description="P(click | examined) of what fully is")] = 0.95
    popularity: Annotated[
        float, Meta(ge=0, description="exponent of the Zipf law by which graded queries are asked")
    ] = 0.5
    users: Annotated[int, Meta(ge=1, description="people who come")] = 1_000
    impressions: Annotated[bool, Meta(description="pages report what they showed")] = True
    dwell: Annotated[bool, Meta(description="a `leave` says when an item was left")] = True
    bots: Annotated[Share, Meta(description="share of visits by machines")] = 0.0
    duplicates: Annotated[Share, Meta(description="chance that an event is reported twice")] = 0.0
    period_days: Annotated[float, Meta(gt=0, description="between two drifts of a shop")] = 7.0
    moved: Annotated[Share, Meta(description="of a shop's users, whose tastes move in a drift")] = (
        0.0
    )
    trending: Annotated[Share, Meta(description="of a shop's visits, that follow a trend")] = 0.0

    @property
    def clicks(self) -> ClickModel:
        """The truth about looking and clicking."""
        return ClickModel(eta=self.eta, noise=self.noise, most=self.most)

    @property
    def habits(self) -> Habits:
        return Habits(dwell=self.dwell, bots=self.bots, duplicates=self.duplicates)

    @property
    def drift(self) -> Drift:
        return Drift(moved=self.moved, trending=self.trending)

    def at(self, n: int) -> datetime:
        """When the n-th visit comes: one in each equal slot of time, anywhere in it."""
        slots = n + Random(f"time {self.seed} {n}").random()
        return self.start + timedelta(days=slots / self.visits_per_day)

    def period(self, n: int) -> int:
        """How often tastes have drifted when the n-th visit comes."""
        return int((self.at(n) - self.start) / timedelta(days=self.period_days))


class Served(NamedTuple):
    """One visit: what was asked, what was answered, and what was done with it."""

    search: SearchEvent
    ranked: RankedList
    behaviours: tuple[Behaviour, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A visit before it is answered.

    `relevance` is the truth: what an item of the catalogue is worth to this visitor, in [0, 1].
    Searches that name the same `kind` have the same list, apart from ids and times.
    """

    search: SearchEvent
    relevance: Callable[[str], float]
    bot: bool = False
    kind: str | None = None


class Source(Protocol):
    """Where visits come from."""

    @property
    def catalogue(self) -> Mapping[str, Item]:
        """The items that candidates are ids of."""

    def ask(self, n: int) -> Asked:
        """The n-th visit."""

    def hear(self, behaviours: Iterable[Behaviour]) -> None:
        """What was done so far, for a source whose searches carry a history."""


def ranker(model: Model, catalogue: Mapping[str, Item], dials: Dials) -> Rank:
    """The worker's own rerank as a rank function. `dials` must not explore."""
    tables = Tables(catalogue=catalogue)

    def rank(searches: Sequence[SearchEvent]) -> Sequence[RankedList]:
        return rerank([join(search, tables, dials) for search in searches], model)

    return rank


def simulate(
    source: Source, rank: Rank, settings: SimulateSettings, first: int = 0
) -> Iterator[Served]:
    """`settings.visits` visits from number `first` on, in the order of time.

    Visits of one kind are ranked once, and differ in exploration and clicks.
    """
    lists: dict[str, RankedList] = {}
    end = first + settings.visits
    for start in range(first, end, BATCH):
        batch = [source.ask(n) for n in range(start, min(start + BATCH, end))]
        for asked, base in zip(batch, _ranked(batch, rank, lists), strict=True):
            served = _served(asked, base, settings)
            source.hear(served.behaviours)
            yield served


def _ranked(
    batch: Sequence[Asked], rank: Rank, lists: dict[str, RankedList]
) -> Iterator[RankedList]:
    """The list of each visit before exploration; `lists` are known by kind, and added to."""
    kinds = [one.kind or one.search.query_id for one in batch]
    fresh = {kind: one.search for kind, one in zip(kinds, batch, strict=True) if kind not in lists}
    found = dict(zip(fresh, rank(list(fresh.values())), strict=True)) if fresh else {}
    lists.update({one.kind: found[one.kind] for one in batch if one.kind in found})
    return (found.get(kind) or lists[kind] for kind in kinds)


def _served(asked: Asked, base: RankedList, settings: SimulateSettings) -> Served:
    """One visit to its end: the list is explored by its own id, looked at, and clicked."""
    search = asked.search
    assert search.timestamp is not None, "a source sets the time of each visit: this is a bug"
    ranked = msgspec.structs.replace(
        base,
        query_id=search.query_id,
        user_id=search.user_id,
        timestamp=search.timestamp + ANSWERED,
        items=explore(base.items, search.query_id, settings.explore),
    )
    ranked = msgspec.structs.replace(ranked, list_id=codec.list_id(ranked))
    shown = [item.item_id for item in ranked.items]
    page = Page(search, shown, ranked.list_id, search.timestamp + SEEN)
    done = react(
        page,
        [asked.relevance(item_id) for item_id in shown],
        settings.clicks,
        settings.habits,
        f"react {settings.seed} {search.query_id}",
        asked.bot,
    )
    return Served(search, ranked, (page.impressions() if settings.impressions else ()) + done)
