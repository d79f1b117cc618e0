"""The texts that a list is learned from, as a shop and its users might have written them too.

Each epoch reads a list anew: without some fields or the user's past, with words left out, misspelt
or in another order. What is read is a function of (seed, epoch, list, row) alone, so that a run
that goes on reads what it would have read. The encoder's cosine stays that of the texts as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.random import Generator

from export.bundle import Template
from training.perturb import Change, attribute_shuffle, typo, word_dropout, word_order
from training.units import units
from worker.ranking.join import Entry, JoinedSearch
from worker.ranking.text import pair_texts


class Augment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chances by which texts are learned as they might have been written."""

    query_typos: Annotated[
        float, Meta(ge=0, lt=1, description="chance that a list is read with a typo in its query")
    ] = 0.0
    title_typos: Annotated[
        float, Meta(ge=0, lt=1, description="chance that an item is read with a typo in its title")
    ] = 0.0
    query_dropout: Annotated[
        float, Meta(ge=0, lt=1, description="chance that a query's word is left out, never all")
    ] = 0.0
    title_dropout: Annotated[
        float, Meta(ge=0, lt=1, description="chance that a title's word is left out, never all")
    ] = 0.0
    word_order: Annotated[
        float, Meta(ge=0, lt=1, description="chance that a query's words stand in another order")
    ] = 0.0
    attribute_shuffle: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="chance that what stands between a title's commas changes places",
        ),
    ] = 0.0
    units: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="chance that a query's or a title's measures are written another way: "
            "6 ft, 6-foot, 72 in.",
        ),
    ] = 0.0
    hard_negatives: Annotated[
        int,
        Meta(
            ge=0,
            description="items of other lists, near the query and in none of its own, that a list "
            "is learned with: grade 0, all of them together as heavy as one candidate",
        ),
    ] = 0

    synthetic: Annotated[
        float,
        Meta(
            ge=0,
            description="lists made of items alone, for each that there is: some words of a title "
            "as the query, its item as the answer, others by lot",
        ),
    ] = 0.0


PLAIN = Augment()


def read_anew(
    search: JoinedSearch,
    rows: Sequence[int],
    template: Template,
    field_dropout: float,
    augment: Augment,
    seed: tuple[int, int, int],
) -> list[tuple[str, str]] | None:
    """The pair texts of some candidates as `seed` (seed, epoch, list) has them; None where they are
    as they were."""
    chance = np.random.default_rng(seed)
    partial = _without_fields(template, field_dropout, bool(search.history), chance)
    if msgspec.structs.replace(augment, hard_negatives=0, synthetic=0.0) == PLAIN:
        return None if partial == template else pair_texts(search, rows, partial)
    query = _query(search.query, augment, chance)
    entries = list(search.entries)
    for row in rows:  # whatever others are read with it
        entries[row] = _entry(entries[row], augment, np.random.default_rng((*seed, row + 1)))
    return pair_texts(replace(search, asked=query, entries=tuple(entries)), rows, partial)


def _without_fields(
    template: Template, share: float, has_past: bool, chance: Generator
) -> Template:
    """The template without some of its fields, the first kept, or without the user's past."""
    first, *others = template.item
    kept = [each for each in others if chance.random() >= share]
    past = template.history
    if past and has_past and chance.random() < share:
        past = 0
    return msgspec.structs.replace(template, item=(first, *kept), history=past)


def _query(text: str, augment: Augment, chance: Generator) -> str:
    changes = (
        (units, augment.units),
        (word_order, augment.word_order),
        (typo, augment.query_typos),
    )
    return _changed(text, augment.query_dropout, changes, chance)


def _entry(entry: Entry, augment: Augment, chance: Generator) -> Entry:
    changes = (
        (units, augment.units),
        (attribute_shuffle, augment.attribute_shuffle),
        (typo, augment.title_typos),
    )
    title = _changed(entry.item.title or "", augment.title_dropout, changes, chance)
    return replace(entry, item=msgspec.structs.replace(entry.item, title=title))


def _changed(
    text: str, dropped: float, changes: Sequence[tuple[Change, float]], chance: Generator
) -> str:
    """Words left out, and of what is left each change by its chance."""
    text = word_dropout(text, chance, dropped)
    for change, share in changes:
        if chance.random() < share:
            text = change(text, chance)
    return text
