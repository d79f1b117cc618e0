"""What happens to texts between a shop and its users, as pure functions of a text and of chance.

None of it should change what is relevant: a robust order is the same afterwards. Where a text has
nothing that a change is about it stays as it is, and none is ever emptied. Scripts without spaces
have no words here: their runs of characters keep together, and are only misspelt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import dist
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.random import Generator

from training.judgments import RELEVANT, GradedQuery
from training.units import units
from worker.events import Candidate
from worker.ranking.rules import RUN, words

T = TypeVar("T")
Change: TypeAlias = Callable[[str, Generator], str]
Perturbation: TypeAlias = Callable[[GradedQuery, int], GradedQuery]

SHORTEST: Final = 4  # letters of a word that is misspelt
KEYS: Final = {  # QWERTY: where each key lies, in widths of a key
    letter: (place + shift, float(row))
    for row, (letters, shift) in enumerate(
        (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
    )
    for place, letter in enumerate(letters)
}
REACH: Final = 1.3  # how far a finger strays
NEIGHBOURS: Final = {
    key: tuple(other for other in KEYS if other != key and dist(KEYS[key], KEYS[other]) < REACH)
    for key in KEYS
}
PARTS: Final = re.compile(r"(,\s+|\s\|\s|[，、])")
"""What stands between a title's parts; no comma of 1,000."""


def typo(text: str, chance: Generator) -> str:
    """One word misspelt: two letters change places, one is a neighbour's on the keyboard, left out
    or doubled (the kinds of Zhuang & Zuccon, EMNLP 2021, "Dealing with typos for BERT-based passage
    retrieval and ranking", who misspell one word a query too).

    Numbers, names with digits and words of fewer than four letters stay. What QWERTY has no keys
    for is only transposed.

    >>> typo("trail shoe 42", np.random.default_rng(1))
    'tral shoe 42'
    """
    runs = [run for run in RUN.finditer(text) if _slips(run)]
    if not runs:
        return text
    run = _one_of(runs, chance)
    wrong = _one_of(_slips(run), chance)(run[0], chance)
    return text[: run.start()] + wrong + text[run.end() :]


def word_order(text: str, chance: Generator) -> str:
    """The words in another order."""
    whole = text.split()
    return " ".join(_another_order(whole, chance)) if len(whole) > 1 else text


def attribute_shuffle(text: str, chance: Generator) -> str:
    """What stands between commas, in another order: sellers list what an item has as they like.

    The order of an item's fields is no matter: a template has its own.
    """
    parts = PARTS.split(text.strip())
    if len(parts) == 1:
        return text
    parts[::2] = _another_order(parts[::2], chance)
    return "".join(parts)


def word_dropout(text: str, chance: Generator, share: float) -> str:
    """Each word left out by that chance, but never all (word dropout: Iyyer et al., ACL 2015, "Deep
    unordered composition rivals syntactic methods for text classification", section 4)."""
    whole = text.split()
    kept = [word for word in whole if chance.random() >= share]
    return text if len(kept) == len(whole) else " ".join(kept or [_one_of(whole, chance)])


def brand_swap(query: GradedQuery, seed: int) -> GradedQuery:
    """Titles that name their brand name another's of the list instead, of the same category where
    they tell theirs.

    A brand with a word of the query is left, and given to no other: there it is what was asked for.
    """
    asked = set(words(query.event.user_query))
    named = {
        item.item_id: found
        for item in query.event.candidates
        if (found := _brand(item)) and asked.isdisjoint(words(found[0]))
    }

    def swapped(item: Candidate, chance: Generator) -> Candidate:
        found = named.get(item.item_id)
        others = [
            named[other.item_id][0]
            for other in query.event.candidates
            if other.item_id in named and other.category == item.category
        ]
        if found is None or not (others := [each for each in others if not _same(each, found[0])]):
            return item
        brand = _one_of(others, chance)
        title = found.string[: found.start()] + brand + found.string[found.end() :]
        return msgspec.structs.replace(item, title=title, brand=brand)

    return _each_item(query, seed, swapped)


def stuffed_titles(query: GradedQuery, seed: int) -> GradedQuery:
    """What is worth least in the list, and is not relevant, has behind its title what that lacks of
    the query's words: its seller fills titles with what people ask for."""
    asked = query.event.user_query.split()
    gains, lowest = query.gains(), min(query.grades)

    def stuffed(item: Candidate, _chance: Generator) -> Candidate:
        has = set(words(item.title or ""))
        lacks = [word for word in asked if not has.issuperset(words(word))]
        if not item.title or not lacks or not gains[item.item_id] == lowest < RELEVANT:
            return item
        return msgspec.structs.replace(item, title=" ".join([item.title, *lacks]))

    return _each_item(query, seed, stuffed)


def asked(change: Change) -> Perturbation:
    """The change in the query."""

    def perturbed(query: GradedQuery, seed: int) -> GradedQuery:
        text = change(query.event.user_query, drawn(seed, query.event.query_id))
        return replace(query, event=msgspec.structs.replace(query.event, user_query=text))

    return perturbed


def titled(change: Change) -> Perturbation:
    """The change in every title, each by a chance of its own."""

    def retitled(item: Candidate, chance: Generator) -> Candidate:
        if not item.title:
            return item
        return msgspec.structs.replace(item, title=change(item.title, chance))

    return lambda query, seed: _each_item(query, seed, retitled)


def _units(query: GradedQuery, seed: int) -> GradedQuery:
    return titled(units)(asked(units)(query, seed), seed)


PERTURBATIONS: Final[Mapping[str, Perturbation]] = {
    "query_typos": asked(typo),
    "title_typos": titled(typo),
    "word_order": asked(word_order),
    "brand_swap": brand_swap,
    "stuffed_titles": stuffed_titles,
    "units": _units,
    "attribute_shuffle": titled(attribute_shuffle),
}
"""Each a function of (query, seed): its chance hangs on the ids of query and item alone."""


def drawn(seed: int, *names: str) -> Generator:
    """Chance that hangs on these alone."""
    key = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))


def _each_item(
    query: GradedQuery, seed: int, change: Callable[[Candidate, Generator], Candidate]
) -> GradedQuery:
    event = query.event
    items = tuple(
        change(item, drawn(seed, event.query_id, item.item_id)) for item in event.candidates
    )
    return replace(query, event=msgspec.structs.replace(event, candidates=items))


def _brand(item: Candidate) -> re.Match[str] | None:
    """Where the title names the item's brand, in whole words."""
    if not item.brand or not item.brand.strip():
        return None
    name = rf"(?<!\w){re.escape(item.brand.strip())}(?!\w)"
    return re.search(name, item.title or "", re.IGNORECASE)


def _same(one: str, other: str) -> bool:
    return words(one) == words(other)


def _another_order(parts: Sequence[T], chance: Generator) -> list[T]:
    """Shuffled, and not as they were unless all are equal."""
    found = [parts[place] for place in chance.permutation(len(parts)).tolist()]
    return [*parts[1:], *parts[:1]] if found == list(parts) else found


def _one_of(values: Sequence[T], chance: Generator) -> T:
    return values[int(chance.integers(len(values)))]


def _slips(run: re.Match[str]) -> tuple[Change, ...]:
    """How a run of characters can be misspelt."""
    word = run[0]
    if not word.isalpha() or (run[1] is None and len(word) < SHORTEST):
        return ()
    swaps = (_transposed,) if _pairs(word) else ()
    return (*swaps, _strayed, _omitted, _doubled) if KEYS.keys() >= set(word.lower()) else swaps


def _pairs(word: str) -> list[int]:
    """Where two neighbours differ."""
    return [at for at in range(len(word) - 1) if word[at].lower() != word[at + 1].lower()]


def _transposed(word: str, chance: Generator) -> str:
    at = _one_of(_pairs(word), chance)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _strayed(word: str, chance: Generator) -> str:
    at = int(chance.integers(len(word)))
    key = _one_of(NEIGHBOURS[word[at].lower()], chance)
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def _omitted(word: str, chance: Generator) -> str:
    at = int(chance.integers(len(word)))
    return word[:at] + word[at + 1 :]


def _doubled(word: str, chance: Generator) -> str:
    at = int(chance.integers(len(word)))
    return word[: at + 1] + word[at:]
