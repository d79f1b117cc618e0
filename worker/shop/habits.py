"""From clicks to behaviour events: when each comes, what follows, and what only machines do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final

from worker.events import Behaviour, EventAttributes, ObjectRef, Position, SearchEvent
from worker.shop.clicks import ClickModel

ADD_TO_CART, PURCHASE = 0.35, 0.4  # chance after a click and after an add_to_cart, if relevant
GLANCE_SECONDS: Final = 1.2  # at each place on the way down a page, in the middle
SHORT_SECONDS: Final = 4.0  # the median stay at an item that is not relevant,
LONG_SECONDS: Final = 60.0  # and at one that fully is
SPREAD: Final = 0.5  # sigma of the logarithm of a time
CART_SHARE, PURCHASE_SHARE = 0.5, 0.8  # of a stay, when an item is put into the cart and bought
BOT_SECONDS: Final = 0.05  # between two clicks of a machine


@dataclass(frozen=True, slots=True)
class Habits:
    """What comes with clicks; nothing by default, and then events are a millisecond apart."""

    dwell: bool = False  # people take their time, and a `leave` says when they left an item
    bots: float = 0.0  # share of visits that machines make
    duplicates: float = 0.0  # chance that an event is reported twice


@dataclass(frozen=True, slots=True)
class Page:
    """What one user was shown for a search: item ids from position 1, and when."""

    search: SearchEvent
    shown: Sequence[str]
    list_id: str | None
    at: datetime

    def behaviour(self, action: str, position: int, seconds: float = 0.0) -> Behaviour:
        """What was done with the item at a 1-based position, `seconds` after the page came."""
        return Behaviour(
            action_name=action,
            query_id=self.search.query_id,
            client_id=self.search.client_id,
            user_id=self.search.user_id,
            user_query=self.search.user_query,
            timestamp=self.at + timedelta(seconds=seconds),
            event_attributes=EventAttributes(
                object=ObjectRef(object_id=self.shown[position - 1]),
                position=Position(ordinal=position),
                list_id=self.list_id,
            ),
        )

    def impressions(self) -> tuple[Behaviour, ...]:
        """The page's own report of what it showed: one UBI impression an item."""
        return tuple(self.behaviour("impression", n) for n in range(1, len(self.shown) + 1))


def react(
    page: Page,
    relevances: Sequence[float],
    clicks: ClickModel,
    habits: Habits,
    seed: str,
    bot: bool = False,
) -> tuple[Behaviour, ...]:
    """What the user does with a page whose items are so relevant to them, in the order of time.

    `seed` decides the clicks and what follows them; habits add times and copies, never a click.
    """
    if bot:
        done = _by_a_machine(page, habits)
    else:
        random = Random(seed)
        did = [
            (position, _actions(random, relevances[position - 1]))
            for position in clicks.clicks(random, relevances)
        ]
        done = _in_time(page, did, relevances, seed) if habits.dwell else _at_once(page, did)
    return tuple(_repeated(done, habits, seed))


def _actions(random: Random, relevance: float) -> tuple[str, ...]:
    """A click, and as far as the item pleases, what follows it."""
    if random.random() >= ADD_TO_CART * relevance:
        return ("click",)
    if random.random() >= PURCHASE * relevance:
        return ("click", "add_to_cart")
    return ("click", "add_to_cart", "purchase")


def _at_once(page: Page, did: Sequence[tuple[int, tuple[str, ...]]]) -> Iterator[Behaviour]:
    every = [(position, action) for position, actions in did for action in actions]
    for n, (position, action) in enumerate(every):
        yield page.behaviour(action, position, n / 1_000)


def _in_time(
    page: Page,
    did: Sequence[tuple[int, tuple[str, ...]]],
    relevances: Sequence[float],
    seed: str,
) -> Iterator[Behaviour]:
    """Down the page with a glance at each place, and a stay where it was clicked.

    Times are log-normal, which dwell times nearly are (Yi et al., RecSys 2014); the median of a
    stay grows geometrically with relevance.
    """
    random = Random(f"times {seed}")
    clock, last = 0.0, 0
    for position, actions in did:
        clock += (position - last) * _around(random, GLANCE_SECONDS)
        median = SHORT_SECONDS * (LONG_SECONDS / SHORT_SECONDS) ** relevances[position - 1]
        stay = _around(random, median)
        for action, share in zip(actions, (0.0, CART_SHARE, PURCHASE_SHARE), strict=False):
            yield page.behaviour(action, position, clock + share * stay)
        clock, last = clock + stay, position
        yield page.behaviour("leave", position, clock)


def _around(random: Random, median: float) -> float:
    return random.lognormvariate(math.log(median), SPREAD)


def _by_a_machine(page: Page, habits: Habits) -> Iterator[Behaviour]:
    """Everything, from first to last, at once."""
    for position in range(1, len(page.shown) + 1):
        yield page.behaviour("click", position, position * BOT_SECONDS)
        if habits.dwell:
            yield page.behaviour("leave", position, (position + 0.5) * BOT_SECONDS)


def _repeated(done: Iterator[Behaviour], habits: Habits, seed: str) -> Iterator[Behaviour]:
    random = Random(f"duplicates {seed}")
    for behaviour in done:
        yield behaviour
        if random.random() < habits.duplicates:
            yield behaviour
