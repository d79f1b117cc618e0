"""How the shop reads text: lower-case words, plurals folded, and what an item is known by."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from worker.events import Item

WORD: Final = re.compile(r"[^\W_]+")
TRAIT_CHARACTERS: Final = 24  # longer attribute values are descriptions


@lru_cache(maxsize=200_000)
def words(text: str) -> tuple[str, ...]:
    """The words of a text in order, an English plural folded into its singular.

    >>> words("Trail-running SHOES, 42")
    ('trail', 'running', 'shoe', '42')
    """
    return tuple(_singular(word) for word in WORD.findall(text.lower()))


def item_words(item: Item) -> frozenset[str]:
    """Every word that finds an item."""
    return frozenset(words(" ".join((item.title or "", item.brand or "", item.category or ""))))


def traits(item: Item) -> frozenset[str]:
    """What an item is besides its category and brand: its short attribute values.

    Items without attributes are known by the other words of their title.
    """
    values = (value for name, value in item.attributes.items() if name != "size")
    found = {v.lower() for v in values if isinstance(v, str) and 0 < len(v) <= TRAIT_CHARACTERS}
    if found:
        return frozenset(found)
    known = set(words(f"{item.brand or ''} {item.category or ''}"))
    return frozenset(
        word for word in words(item.title or "") if word not in known and word.isalpha()
    )


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        return word[:-1]
    return word
