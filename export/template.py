"""How words reach a model: the text of an item, of a query, and of what the user did before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

READ: Final = ("title", "description:100")
"""What an encoder reads of an item where nobody says otherwise: of one without a description, its
title. On chorus_icecat that is worth .05 of nDCG (README, "Before the first click")."""
PAST_CHARS: Final = 160  # of all that the user acted on: the items of the list need room too


class Segment(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One field of an item as text: `before` + value + `after`, or nothing where it is absent."""

    field: str
    before: str = ""
    after: str = ""
    longest: Annotated[int, Meta(ge=0)] = 0  # characters of the value that are read; 0: all

    def render(self, value: object) -> str:
        """The text of a value that is there."""
        text = str(value)
        return self.before + (text[: self.longest] if self.longest else text) + self.after


def segments(fields: Sequence[str], separator: str) -> tuple[Segment, ...]:
    """Fields in their order, `separator` between two; NAME:100 is the first 100 characters of NAME.

    >>> [each.render("Trail shoe") for each in segments(("title", "description:5"), " | ")]
    ['Trail shoe', ' | Trail']
    """
    found = []
    for place, named in enumerate(fields):
        name, _, longest = named.rpartition(":")
        cut = name != "" and longest.isdecimal()
        found.append(
            Segment(
                field=name if cut else named,
                before=separator if place else "",
                longest=int(longest) if cut else 0,
            )
        )
    return tuple(found)


class Template(Struct, frozen=True, kw_only=True):
    """How words reach the model. Training and serving both render through here."""

    query_before: str = ""
    item_before: str = ""
    item: tuple[Segment, ...] = (Segment(field="title"),)
    history: Annotated[int, Meta(ge=0)] = 0  # of the user's items, that stand behind the query
    history_before: str = " | "

    def query(self, user_query: str) -> str:
        """The text of a query."""
        return self.query_before + user_query

    def asked(self, user_query: str, past: Iterable[Mapping[str, Any]]) -> str:
        """The text of a query and of the items that the user acted on, those that tell most first:
        `history` of them at most, each by its first field and its part of PAST_CHARS.

        >>> Template(history=1).asked("boots", [{"title": "Trail shoe"}, {"title": "Sandal"}])
        'boots | Trail shoe'
        """
        named = (str(fields.get(self.item[0].field) or "") for fields in past)
        told = islice(filter(str.strip, named), self.history)
        titles = [name[: PAST_CHARS // self.history] for name in told]
        return "".join([self.query(user_query), *(self.history_before + each for each in titles)])

    def render(self, fields: Mapping[str, Any]) -> str:
        """The text of an item: its fields by name; absent (None or blank) ones give nothing.

        >>> Template(item=(Segment(field="title"), Segment(field="brand", before=" by "))).render(
        ...     {"title": "Trail shoe", "brand": "Acme"})
        'Trail shoe by Acme'
        """
        parts = [
            segment.render(value)
            for segment in self.item
            if (value := fields.get(segment.field)) is not None and str(value).strip()
        ]
        return self.item_before + "".join(parts)


def base_name(weights: str, template: Template, spelling: bool) -> str:
    """What the bundle of a base model alone is known by: its weights, and how it reads."""
    reads = msgspec.json.encode((template, spelling))
    return f"{weights[:16]}-{hashlib.sha256(reads).hexdigest()[:8]}"
