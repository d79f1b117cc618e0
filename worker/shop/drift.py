"""What changes with time: people come to like other things, and ask for what nobody asked before.

Time is a period's number, 0 for the first, in which everything is as without drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from worker.shop.intents import Intent, Intents
from worker.shop.users import Market, User


@dataclass(frozen=True, slots=True)
class Drift:
    """How much changes from one period to the next; nothing by default."""

    moved: float = 0.0  # share of users who come to other categories, brands and traits
    trending: float = 0.0  # share of visits that ask for one of their period's trends
    trends: int = 5  # needs that come up with a period, and go with it


def moved(
    users: Sequence[User], market: Market, drift: Drift, seed: int, period: int
) -> tuple[User, ...]:
    """The users as they are in `period`, given those of the one before: some have moved."""
    return tuple(
        _moved(user, market, drift, Random(f"moved {seed} {period} {user.user_id}"))
        for user in users
    )


def trends_in(period: int, intents: Intents, drift: Drift, seed: int) -> tuple[Intent, ...]:
    """The needs that a period brings."""
    random = Random(f"trends {seed} {period}")
    return tuple(intents.narrow(random) for _ in range(drift.trends))


def _moved(user: User, market: Market, drift: Drift, random: Random) -> User:
    """A user after one period: another taste perhaps, and the same purse."""
    if random.random() >= drift.moved:
        return user
    return replace(market.user(user.user_id, random), price_level=user.price_level)
