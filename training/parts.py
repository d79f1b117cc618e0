"""A query and an item whose parts can be left out: the words of both, and the item's fields.

Parts are left out after the join, so that an item without a title is still judged; the worker would
put it last, as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from worker.events import Candidate
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import conclude, first_stage, sigmoid
from worker.ranking.model import Doubles, Model
from worker.ranking.pairs import second_stage
from worker.ranking.rerank import needed, read
from worker.ranking.rules import UNSPACED
from worker.ranking.spelling import spelled
from worker.ranking.text import Fields

QUERY: Final = "query"  # where the words of a query stand
PAST: Final = "the user's past"  # left out as if it were a field
FEATURES: Final = "features."
WORD: Final = re.compile(rf"\s*(?:[{UNSPACED}]|[^\s{UNSPACED}]+)\s*")
AT_ONCE: Final = 64  # searches that are judged together: what their vectors take


@dataclass(frozen=True, slots=True)
class Part:
    """What a game can leave out: a word, or a whole field."""

    field: str  # of the item, or QUERY
    text: str  # the word; empty for a whole field
    place: int  # of the word in its field, from 0


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate of a search, by its row, as `model` judges it."""

    search: JoinedSearch
    row: int
    model: Model

    @property
    def item(self) -> Candidate:
        return self.search.entries[self.row].item

    def worth(self, searches: Sequence[JoinedSearch]) -> Doubles:
        """[n] the served relevance of the item in each of these forms of its search.

        Where neither query nor taste is left the worker claims none; here the cosine is 0 then.
        """
        nobody = float(sigmoid(self.model.calibration.logits(np.zeros(1)))[0])
        found: list[float] = []
        for start in range(0, len(searches), AT_ONCE):
            some = [spelled(one, self.model) for one in searches[start : start + AT_ONCE]]
            readings = read(needed(some, self.model), self.model)
            judged = [first_stage(search, readings, self.model) for search in some]
            for search, one in zip(some, second_stage(some, judged, self.model), strict=True):
                scores = conclude(search, one, readings, self.model)
                known = scores.relevance
                found.append(nobody if known is None else float(known[self.row]))
        return np.array(found)

    def fields(self) -> tuple[str, ...]:
        """What the item has of what the model reads: fields and attributes, `features.NAME`,
        `score` (the engine's), and what the user did."""
        pairs, model, dials = self.model.pairs, self.model, self.search.dials
        templates = (model.template, *([] if pairs is None else [pairs.template]))
        names = dict.fromkeys(segment.field for each in templates for segment in each.item)
        there = [name for name in names if text_of(self.item, name).strip()]
        blend = None if pairs is None else pairs.blend
        if blend is not None:
            there += [FEATURES + name for name in blend.features if name in self.item.features]
        weighs = dials.engine_weight > 0.0 or (blend is not None and blend.engine > 0.0)
        if weighs and self.item.score is not None:
            there.append("score")
        return (*there, *([PAST] if self.search.history else []))

    def item_words(self) -> tuple[Part, ...]:
        """The words of the item's fields that are text, as the model reads them."""
        texts = {name: Fields(self.item).get(name) for name in self.fields()}
        return tuple(
            Part(name, word.strip(), place)
            for name, text in texts.items()
            if isinstance(text, str)
            for place, word in enumerate(pieces(text))
        )

    def query_words(self) -> tuple[Part, ...]:
        """The words of the query."""
        asked = pieces(self.search.event.user_query)
        return tuple(Part(QUERY, word.strip(), place) for place, word in enumerate(asked))

    def without(self, absent: Sequence[Part]) -> JoinedSearch:
        """The search with these parts left out."""
        if not absent:
            return self.search
        places: dict[str, set[int]] = {}
        for part in absent:
            if part.text:
                places.setdefault(part.field, set()).add(part.place)
        search, item = self.search, self.item
        for name in (part.field for part in absent if not part.text):
            if name == PAST:
                search = replace(search, history=())
            else:
                item = _without_field(item, name)
        for name, gone in places.items():
            if name == QUERY:
                search = _asking(search, _kept(search.event.user_query, gone))
            else:
                item = _with_field(item, name, _kept(text_of(item, name), gone))
        return self._with(item, search)

    def adding(self, word: str, name: str) -> JoinedSearch:
        """The search with a word more at the end of a field of the item."""
        return self._with(_with_field(self.item, name, f"{text_of(self.item, name)} {word}"))

    def _with(self, item: Candidate, search: JoinedSearch | None = None) -> JoinedSearch:
        search = search or self.search
        entries = list(search.entries)
        entries[self.row] = replace(entries[self.row], item=item)
        return replace(search, entries=tuple(entries))


def pieces(text: str) -> list[str]:
    """A text cut behind each of its words; together they are the text. Where a script puts nothing
    between words, a character is one.

    >>> pieces("red  防水 shoe")
    ['red  ', '防', '水 ', 'shoe']
    """
    return WORD.findall(text)


def _kept(text: str, gone: set[int]) -> str:
    return "".join(one for place, one in enumerate(pieces(text)) if place not in gone).strip()


def text_of(item: Candidate, name: str) -> str:
    value = Fields(item).get(name)
    return "" if value is None else str(value)


def _asking(search: JoinedSearch, query: str) -> JoinedSearch:
    return replace(search, event=msgspec.structs.replace(search.event, user_query=query))


def _with_field(item: Candidate, name: str, value: str | None) -> Candidate:
    if name in Candidate.__struct_fields__:
        return msgspec.structs.replace(item, **{name: value})
    return msgspec.structs.replace(item, attributes={**item.attributes, name: value})


def _without_field(item: Candidate, name: str) -> Candidate:
    if not name.startswith(FEATURES):
        return _with_field(item, name, None)
    left = {key: value for key, value in item.features.items() if FEATURES + key != name}
    return msgspec.structs.replace(item, features=left)
