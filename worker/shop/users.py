"""Users whose taste is known: what they like is written down, so that lists can be judged."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from worker.events import Item
from worker.shop.words import traits

CATEGORIES: Final = 3  # that a user shops in most
BRANDS: Final = 2  # favourites in each of them, at most
TRAITS: Final = 6
BRAND_SHARE, TRAIT_SHARE, CATEGORY_SHARE, PRICE_SHARE = 0.45, 0.25, 0.15, 0.15
ENOUGH_TRAITS: Final = 2  # liked traits that make an item fully to a taste
SMALLEST_CATEGORY: Final = 5  # items; below it nobody shops there on purpose


@dataclass(frozen=True, slots=True)
class User:
    """A person. `price_level` is the quantile of a category's prices that they look for."""

    user_id: str
    categories: frozenset[str]
    brands: frozenset[str]
    traits: frozenset[str]
    price_level: float
    bot: bool = False  # a machine: it clicks whatever it is shown


class Market:
    """What a catalogue says of itself: who sells what, and where a price stands in its category."""

    def __init__(self, catalogue: Mapping[str, Item]) -> None:
        self.catalogue = catalogue
        self.of_category: dict[str, list[Item]] = defaultdict(list)
        for _, item in sorted(catalogue.items()):
            self.of_category[item.category or ""].append(item)
        self._prices = {
            category: sorted(item.price for item in items if item.price is not None)
            for category, items in self.of_category.items()
        }
        largest = sorted(self.of_category, key=lambda name: (-len(self.of_category[name]), name))
        self.categories = [
            name for name in largest if len(self.of_category[name]) >= SMALLEST_CATEGORY
        ] or largest

    def price_quantile(self, item: Item) -> float:
        """Where the item's price stands among those of its category; the middle if unknown."""
        prices = self._prices.get(item.category or "", [])
        if item.price is None or len(prices) < 2:
            return 0.5
        return bisect_left(prices, item.price) / (len(prices) - 1)

    def users(self, count: int, seed: int = 0) -> tuple[User, ...]:
        """`count` users, each with tastes that this catalogue can serve."""
        return tuple(self.user(f"u-{n:04d}", Random(f"user {seed} {n}")) for n in range(count))

    def user(self, user_id: str, random: Random) -> User:
        """One user, with tastes drawn by `random`."""
        weights = [len(self.of_category[name]) ** 0.5 for name in self.categories]
        chosen = dict.fromkeys(random.choices(self.categories, weights, k=CATEGORIES))
        brands: set[str] = set()
        liked: Counter[str] = Counter()
        for category in chosen:
            items = self.of_category[category]
            # By what is for sale, not by name: people come to like what shops are full of.
            named = [item.brand for item in items if item.brand]
            brands.update(random.choices(named, k=BRANDS) if named else ())
            for item in items:
                liked.update(sorted(traits(item)))
        common = sorted(liked, key=lambda trait: (-liked[trait], trait))[: 6 * TRAITS]
        return User(
            user_id=user_id,
            categories=frozenset(chosen),
            brands=frozenset(brands),
            traits=frozenset(random.sample(common, min(TRAITS, len(common)))),
            price_level=random.betavariate(2.0, 2.0),
        )

    def taste(self, user: User, item: Item) -> float:
        """How much a user would like an item whatever they search for, in [0, 1]."""
        liked = len(user.traits & traits(item)) / ENOUGH_TRAITS
        return (
            BRAND_SHARE * (item.brand in user.brands)
            + TRAIT_SHARE * min(liked, 1.0)
            + CATEGORY_SHARE * (item.category in user.categories)
            + PRICE_SHARE * (1.0 - abs(self.price_quantile(item) - user.price_level))
        )
