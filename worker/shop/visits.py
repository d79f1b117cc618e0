"""The simulated shop: users with a past search, see a list, and click by taste and position.

Pure and seeded: the same seed gives the same visits on the same catalogue, and time is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from worker.events import (
    Behaviour,
    EventAttributes,
    HistoryEntry,
    Item,
    ObjectRef,
    SearchEvent,
)
from worker.shop.clicks import ClickModel
from worker.shop.drift import Drift, moved, trends_in
from worker.shop.engine import FEWEST, MOST, Engine
from worker.shop.habits import Habits, Page, react
from worker.shop.intents import Intent, Intents, match
from worker.shop.users import Market, User

TASTE: Final = 0.5  # of relevance; the rest is for being what was asked for
PAST_ACTIONS: Final = 16
PAST_DAYS: Final = 14.0
CONSIDERED: Final = 24  # items that a user compared before each past action
BOTS: Final = 3  # machines, where there are any


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks what, and what the engine proposes."""

    user: User
    intent: Intent
    event: SearchEvent


class Shop:
    """A catalogue with users and an engine; what happens in it is a function of seed and number."""

    def __init__(
        self,
        catalogue: Mapping[str, Item],
        seed: int = 0,
        users: int = 200,
        click_model: ClickModel | None = None,
        habits: Habits | None = None,
        drift: Drift | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.market = Market(catalogue)
        self.users = self.market.users(users, seed)
        self.click_model = click_model or ClickModel()
        self.habits = habits or Habits()
        self._drift = drift or Drift()
        self._engine = Engine(catalogue, seed)
        self._intents = Intents(self.market)
        self._seed = seed
        self._periods = {0: self.users}

    def visit(self, n: int, now: datetime, period: int = 0) -> Visit:
        """The n-th visit: a user with a need, as a search event with 20 to 200 candidates.

        `period` says how far users and needs have drifted; the first is 0.
        """
        random = Random(f"visit {self._seed} {n}")
        user = random.choice(self.users_in(period))
        intent = self._intents.draw(user, random)
        size = round(FEWEST * (MOST / FEWEST) ** random.random())
        # Chances of their own, so that what is switched off moves nothing else.
        user = self._machine(n) or user
        intent = self._trend(n, period) or intent
        event = SearchEvent(
            query_id=f"q-{self._seed}-{n:06d}",
            user_query=intent.query,
            user_id=user.user_id,
            timestamp=now,
            candidates=self._engine.search(intent.query, size),
        )
        return Visit(user, intent, event)

    def users_in(self, period: int) -> tuple[User, ...]:
        """The users, with the tastes that they have in a period."""
        if period not in self._periods:
            before = self.users_in(period - 1)
            self._periods[period] = moved(before, self.market, self._drift, self._seed, period)
        return self._periods[period]

    def _machine(self, n: int) -> User | None:
        """The bot that makes the n-th visit, if one does."""
        random = Random(f"bot {self._seed} {n}")
        if random.random() >= self.habits.bots:
            return None
        return replace(self.users[0], user_id=f"bot-{random.randrange(BOTS)}", bot=True)

    def _trend(self, n: int, period: int) -> Intent | None:
        """The trend that the n-th visit follows, if it follows one."""
        random = Random(f"trend {self._seed} {n}")
        if not period or random.random() >= self._drift.trending:
            return None
        return random.choice(trends_in(period, self._intents, self._drift, self._seed))

    def browse(self, n: int, now: datetime, size: int = MOST // 2) -> Visit:
        """The n-th visit of a page without a query: best sellers, and taste alone decides."""
        user = Random(f"browse {self._seed} {n}").choice(self.users)
        event = SearchEvent(
            query_id=f"b-{self._seed}-{n:06d}",
            user_query="",
            user_id=user.user_id,
            timestamp=now,
            candidates=self._engine.search("", size),
        )
        return Visit(user, Intent(query="", categories=frozenset()), event)

    def relevance(self, visit: Visit, item_id: str) -> float:
        """The truth: graded relevance in [0, 1] of an item to this user with this need.

        What was asked for comes first and taste second: match x (1 - TASTE + TASTE x taste).
        """
        item = self.catalogue[item_id]
        taste = self.market.taste(visit.user, item)
        return match(visit.intent, item) * (1.0 - TASTE + TASTE * taste)

    def react(
        self, visit: Visit, shown: Sequence[str], list_id: str | None, now: datetime
    ) -> tuple[Behaviour, ...]:
        """What the user does with the list as shown: clicks, and what may follow a click."""
        # Of the visit alone: the same list is clicked in the same way, whoever asks.
        seed = f"react {self._seed} {visit.event.query_id}"
        relevances = [self.relevance(visit, item_id) for item_id in shown]
        page = Page(visit.event, shown, list_id, now)
        return react(page, relevances, self.click_model, self.habits, seed, visit.user.bot)

    def impressions(
        self, visit: Visit, shown: Sequence[str], list_id: str | None, now: datetime
    ) -> tuple[Behaviour, ...]:
        """The page's own report of what it showed: one UBI impression an item."""
        return Page(visit.event, shown, list_id, now).impressions()

    def past(self, user: User, now: datetime, actions: int = PAST_ACTIONS) -> tuple[Behaviour, ...]:
        """What a user did in the two weeks before `now`, oldest first: choices to their taste."""
        random = Random(f"past {self._seed} {user.user_id}")
        ages = sorted((random.uniform(0.01, PAST_DAYS) for _ in range(actions)), reverse=True)
        own = sorted(user.categories)
        done = []
        for n, age in enumerate(ages):
            items = self.market.of_category[random.choice(own)]
            seen = random.sample(items, min(CONSIDERED, len(items)))
            tastes = {item.item_id: self.market.taste(user, item) for item in seen}
            chosen = max(tastes, key=lambda item_id: (tastes[item_id], item_id))
            done.append(
                Behaviour(
                    action_name=random.choice(("click", "click", "add_to_cart", "purchase")),
                    query_id=f"past-{user.user_id}-{n}",
                    user_id=user.user_id,
                    timestamp=now - timedelta(days=age),
                    event_attributes=EventAttributes(object=ObjectRef(object_id=chosen)),
                )
            )
        return tuple(done)


def history(behaviours: Sequence[Behaviour]) -> tuple[HistoryEntry, ...]:
    """Behaviours as the `history` of a search event, for a worker that keeps no profiles."""
    return tuple(
        HistoryEntry(
            item_id=str(done.event_attributes.object.object_id),
            action_name=done.action_name,
            timestamp=done.timestamp,
        )
        for done in behaviours
        if done.event_attributes.object is not None
    )
