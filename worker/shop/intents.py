"""What people mean, and the words they search it with, drawn from any catalogue."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from typing import Final

from worker.events import Item
from worker.shop.users import Market, User
from worker.shop.words import item_words, traits, words

OWN_CATEGORY: Final = 0.7  # chance that a user searches where they shop most
KINDS: Final = ("broad", "category", "trait", "brand")
KIND_WEIGHTS: Final = (0.35, 0.30, 0.20, 0.15)


@dataclass(frozen=True, slots=True)
class Intent:
    """The need behind a query. A broad one is served by any of several categories."""

    query: str
    categories: frozenset[str]
    brand: str | None = None
    trait: str | None = None


class Intents:
    """The needs that a catalogue can serve."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._broad = _broad(market.categories)

    def draw(self, user: User, random: Random) -> Intent:
        """One need of a user: mostly where they shop, in words that may leave much open."""
        own = sorted(user.categories)
        category = random.choice(
            own if own and random.random() < OWN_CATEGORY else self._market.categories
        )
        item = random.choice(self._market.of_category[category])
        if not category:
            return _by_title(item, random)
        return self._worded(item, category, random.choices(KINDS, KIND_WEIGHTS)[0], random)

    def narrow(self, random: Random) -> Intent:
        """A need in words that `draw` never puts together: brand, trait and category at once."""
        category = random.choice(self._market.categories)
        item = random.choice(self._market.of_category[category])
        described = sorted(traits(item))
        if not category:
            return _by_title(item, random, length=3)
        trait = random.choice(described) if described else None
        told = " ".join(word for word in ("new", item.brand, trait, category) if word)
        only = frozenset({category})
        return Intent(query=told, categories=only, brand=item.brand, trait=trait)

    def _worded(self, item: Item, category: str, kind: str, random: Random) -> Intent:
        only = frozenset({category})
        described = sorted(traits(item))
        if kind == "broad" and (word := self._broad.get(category)) is not None:
            return Intent(query=word[0], categories=word[1])
        if kind == "trait" and described:
            trait = random.choice(described)
            return Intent(query=f"{trait} {category}", categories=only, trait=trait)
        if kind == "brand" and item.brand:
            return Intent(query=f"{item.brand} {category}", categories=only, brand=item.brand)
        return Intent(query=category, categories=only)


def match(intent: Intent, item: Item) -> float:
    """How far an item is what was asked for, in [0, 1], whoever asks.

    The category decides; a brand or a trait that was asked for and is missing leaves half. Where
    the category is another one, or where items have none, it is the share of the query's words
    that the item has, and counts a third.
    """
    if not intent.query:
        return 1.0  # nothing was asked for: only taste tells items apart
    if not intent.categories:
        return _word_share(intent, item)
    if item.category not in intent.categories:
        return _word_share(intent, item) / 3.0
    missed = (intent.brand is not None and item.brand != intent.brand) + (
        intent.trait is not None and intent.trait not in traits(item)
    )
    return (1.0, 0.5, 0.25)[missed]


def _word_share(intent: Intent, item: Item) -> float:
    asked = frozenset(words(intent.query))
    return len(asked & item_words(item)) / len(asked) if asked else 0.0


def _by_title(item: Item, random: Random, length: int = 2) -> Intent:
    """For items without categories: `length` words of a title are the need."""
    told = [word for word in words(item.title or "") if word.isalpha()] or [item.item_id]
    start = random.randrange(max(len(told) - length + 1, 1))
    return Intent(query=" ".join(told[start : start + length]), categories=frozenset())


def _broad(categories: list[str]) -> dict[str, tuple[str, frozenset[str]]]:
    """category -> a word that names several categories (shoes, bags), and which ones."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    spelled: Counter[tuple[str, str]] = Counter()
    for category in sorted(categories):
        for raw, word in zip(category.lower().split(), words(category), strict=False):
            named[word].append(category)
            spelled[word, raw] += 1
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for word, names in sorted(named.items(), key=lambda entry: (len(entry[1]), entry[0])):
        if len(set(names)) > 1:
            raw = max((raw for known, raw in spelled if known == word), default=word)
            for category in names:
                found[category] = (raw, frozenset(names))
    return found
