"""Why an item is as relevant to a query as it is: what each word and field adds, and which edit
would change it.

What is explained is what is served: every relevance comes through the exported graphs and the
worker's own stages, in the search that the item stands in, with a part of it left out. Three games
share it out (`training.shapley`): between the words of the query, between the words of the item,
and between the fields that the model reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal, TypeAlias

import numpy as np

from training.parts import Pair, Part, text_of
from training.shapley import Coalitions, Shares, shapley
from worker.errors import PrismrankError
from worker.events import Candidate
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Model
from worker.ranking.rules import words

Game: TypeAlias = Literal["query", "item", "fields"]


class NoPair(PrismrankError):
    """There is no such pair. Nothing was explained; the command ends with status 2."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A game that was played: its parts, and what each adds to the relevance."""

    parts: tuple[Part, ...]
    found: Shares


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the search, and the relevance before and after it."""

    told: str  # "without 'waterproof'"
    part: Part  # that is left out; of place -1: added
    before: float
    after: float

    @property
    def line(self) -> str:
        """In one line.

        >>> Edit("without 'red'", Part("title", "red", 0), 0.83, 0.62).line
        "without 'red' the relevance falls by .21 (0.83 -> 0.62)"
        """
        change = f"{abs(self.after - self.before):.2f}".removeprefix("0")
        verb = "rises" if self.after > self.before else "falls"
        said = f"the relevance {verb} by {change} ({self.before:.2f} -> {self.after:.2f})"
        return f"{self.told} {said}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item is as relevant to one query as it is."""

    query_id: str
    user_query: str
    item: Candidate
    relevance: float
    games: Mapping[Game, Shared]
    edits: tuple[Edit, ...]  # the largest change first


def reasons(pair: Pair, evaluations: int, seed: int) -> Explanation:
    """Share the relevance out, in about `evaluations` of each game, and look for the edits that
    change it most."""
    games: dict[Game, tuple[Part, ...]] = {
        "query": pair.query_words(),
        "item": pair.item_words(),
        "fields": tuple(Part(name, "", 0) for name in pair.fields()),
    }
    relevance, found = _changes(pair, [part for parts in games.values() for part in parts])
    return Explanation(
        query_id=pair.search.event.query_id,
        user_query=pair.search.event.user_query,
        item=pair.item,
        relevance=relevance,
        games={name: _play(pair, parts, evaluations, seed) for name, parts in games.items()},
        edits=tuple(sorted(found, key=lambda edit: -abs(edit.after - edit.before))),
    )


def edits(pair: Pair) -> tuple[float, list[Edit]]:
    """The relevance, and what each word less, or more, would make of it."""
    return _changes(pair, [*pair.query_words(), *pair.item_words()])


def _changes(pair: Pair, parts: Sequence[Part]) -> tuple[float, list[Edit]]:
    edited = list(_edited(pair, parts))
    relevance, *after = pair.worth([pair.search, *(search for _, _, search in edited)]).tolist()
    return relevance, [
        Edit(told, part, relevance, changed)
        for (told, part, _), changed in zip(edited, after, strict=True)
    ]


def chosen(
    searches: Iterable[JoinedSearch], model: Model, query_id: str | None, item_id: str | None
) -> list[Pair]:
    """The pairs of these ids (None: any) whose item has a title; NoPair where there are none."""
    found = [
        Pair(search, row, model)
        for search in searches
        if query_id in (None, search.event.query_id)
        for row, entry in enumerate(search.entries)
        if item_id in (None, entry.item.item_id)
    ]
    if not found:
        raise NoPair(
            f"query_id {query_id or 'any'}, item_id {item_id or 'any'}: expected a query and one of"
            " its candidates, with a title; there is none, and nothing was explained"
        )
    return found


def drawn(pairs: Sequence[Pair], most: int, seed: int) -> list[Pair]:
    """At most so many of them, each as likely as another, in their order."""
    count = min(most, len(pairs))
    rows = np.random.default_rng(seed).choice(len(pairs), size=count, replace=False)
    return [pairs[row] for row in sorted(rows.tolist())]


def _play(pair: Pair, parts: tuple[Part, ...], evaluations: int, seed: int) -> Shared:
    def worth(coalitions: Coalitions) -> Doubles:
        return pair.worth([pair.without([*compress(parts, ~row)]) for row in coalitions])

    return Shared(parts, shapley(worth, len(parts), evaluations, seed))


def _edited(pair: Pair, parts: Sequence[Part]) -> Iterator[tuple[str, Part, JoinedSearch]]:
    """Each part left out, and each word of the query that the item lacks put behind its first
    field; but for what would leave a search without a query, or an item without a title."""
    for part in parts:
        search = pair.without([part])
        if search.event.user_query.strip() and text_of(search.entries[pair.row].item, "title"):
            yield _told(part), part, search
    said = {word for part in pair.item_words() for word in words(part.text)}
    field = next((part.field for part in pair.item_words()), None)
    for word in dict.fromkeys(words(pair.search.event.user_query)):
        if field is not None and word not in said:
            told = f"with {word!r} in the {field}"
            yield told, Part(field, word, -1), pair.adding(word, field)


def _told(part: Part) -> str:
    if not part.text:
        return f"without its {part.field}"
    place = "" if part.field == "title" else f" in the {part.field}"
    return f"without {part.text!r}{place}"
