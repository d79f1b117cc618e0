"""Where simulated visits come from, and what items are worth to those who make them.

Two sources of truth: a shop over a catalogue, whose users have tastes that drift, and graded
queries, where an item is worth its grade to everyone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from pathlib import Path
from random import Random

import msgspec

from training.judgments import DESCRIBING, LIMITS, GradedQuery
from training.simulate import Asked, SimulateSettings
from worker import codec
from worker.errors import BadMessage, PrismrankError
from worker.events import Behaviour, Candidate, Item, Profile
from worker.ranking.profiles import fold
from worker.shop.visits import BOTS, Shop


class BadCatalogue(PrismrankError):
    """A file of items cannot be used. Nobody came; the command ends with status 2."""


def read_items(path: Path) -> Iterator[Item]:
    """The items of JSONL, one a line; raises BadCatalogue that names the line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadCatalogue(f"{path}: {error.strerror}; expected a file, an item a line") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield codec.decode_item(line, LIMITS)
            except BadMessage as error:
                raise BadCatalogue(f"{path}:{number}: {error}") from error


class Shopping:
    """Visits to a shop over a catalogue. Each search carries its user's history."""

    def __init__(self, catalogue: Mapping[str, Item], settings: SimulateSettings) -> None:
        self.catalogue = catalogue
        self.shop = Shop(
            catalogue,
            settings.seed,
            settings.users,
            settings.clicks,
            settings.habits,
            settings.drift,
        )
        self._settings = settings
        self._profiles = {
            user.user_id: reduce(fold, self.shop.past(user, settings.start), Profile())
            for user in self.shop.users
        }

    def ask(self, n: int) -> Asked:
        settings = self._settings
        visit = self.shop.visit(n, settings.at(n), settings.period(n))
        known = self._profiles.get(visit.user.user_id, Profile())
        search = msgspec.structs.replace(visit.event, k=settings.page, history=known.entries)
        return Asked(search, lambda item_id: self.shop.relevance(visit, item_id), visit.user.bot)

    def hear(self, behaviours: Iterable[Behaviour]) -> None:
        for behaviour in behaviours:
            user = behaviour.user_id or ""
            self._profiles[user] = fold(self._profiles.get(user, Profile()), behaviour)


class Graded:
    """Visits that ask graded queries, the popular ones more often: a Zipf law over a shuffle.

    Candidates are sent by id alone and their fields stand in the catalogue, as shops do it; of an
    item that two queries describe differently, each query sends its own fields.
    """

    def __init__(self, queries: Sequence[GradedQuery], settings: SimulateSettings) -> None:
        self.catalogue = _agreed(item for query in queries for item in query.event.candidates)
        self._settings = settings
        self._gains = [query.gains() for query in queries]
        self._events = [
            msgspec.structs.replace(
                query.event,
                k=settings.page,
                candidates=tuple(self._sent(item) for item in query.event.candidates),
            )
            for query in queries
        ]
        ranks = list(range(1, len(queries) + 1))
        Random(f"popularity {settings.seed}").shuffle(ranks)
        self._cumulated = list(accumulate(rank**-settings.popularity for rank in ranks))

    def ask(self, n: int) -> Asked:
        seed = self._settings.seed
        random = Random(f"visit {seed} {n}")
        drawn = bisect_right(self._cumulated, random.random() * self._cumulated[-1])
        base, gains = self._events[drawn], self._gains[drawn]
        bot = random.random() < self._settings.bots
        user = random.randrange(BOTS if bot else self._settings.users)
        search = msgspec.structs.replace(
            base,
            query_id=f"q-{seed}-{n:06d}",
            user_id=f"bot-{user}" if bot else f"u-{user:04d}",
            timestamp=self._settings.at(n),
        )
        return Asked(search, gains.__getitem__, bot, kind=base.query_id)

    def hear(self, behaviours: Iterable[Behaviour]) -> None:
        """What an item is worth is the same for all, whatever they did before."""

    def _sent(self, item: Candidate) -> Candidate:
        if item.item_id not in self.catalogue:
            return item
        return Candidate(item_id=item.item_id, score=item.score, features=item.features)


def _agreed(candidates: Iterable[Candidate]) -> dict[str, Item]:
    """The items that are described in one way only, by id."""
    known: dict[str, Item | None] = {}
    for candidate in candidates:
        item = Item(**{name: getattr(candidate, name) for name in DESCRIBING})
        if known.setdefault(item.item_id, item) != item:
            known[item.item_id] = None
    return {item_id: item for item_id, item in known.items() if item is not None}
