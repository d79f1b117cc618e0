"""Texts that say the same of an item, which is what a bare catalogue teaches. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from export.bundle import Template
from export.template import READ
from worker.events import Item
from worker.ranking.text import category_text, item_text


class WarmUpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an encoder reads a catalogue, and what it learns from it alone."""

    fields: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="fields and attributes of an item that the encoder reads, in order; "
            "description:100 is the first 100 characters of one",
        ),
    ] = READ
    separator: Annotated[str, Meta(description="between the fields of an item")] = " | "
    steps: Annotated[
        int, Meta(ge=0, description="of gradient descent; 0: the weights stay the base's")
    ] = 0
    pairs_per_step: Annotated[
        int, Meta(ge=2, description="items in a step: each is told from all others")
    ] = 64
    learning_rate: Annotated[float, Meta(gt=0, description="of the encoder, at its highest")] = 2e-5
    temperature: Annotated[
        float, Meta(gt=0, description="cosines are divided by it; lower tells likes apart more")
    ] = 0.05
    max_tokens: Annotated[int, Meta(ge=8, description="a longer text is cut")] = 64
    most_words: Annotated[
        int, Meta(ge=1, description="words of a title that stand for a query, at the most")
    ] = 4
    keep: Annotated[
        float,
        Meta(ge=0, le=1, description="share of the base's weights in the result; 1 is the base"),
    ] = 0.5
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="of all chance in it")] = 0


def view(
    item: Item, template: Template, chance: np.random.Generator, settings: WarmUpSettings
) -> tuple[str, str]:
    """Two texts that say the same of an item, by chance one of the ways in which it can be said."""
    title = item_text(item, template)
    others = [each for each in (item.category, item.description) if each and each.strip()]
    kind = int(chance.integers(1 + len(others)))
    if kind > 0 and others[kind - 1] is not item.category:
        return category_text(others[kind - 1], template), title
    if kind > 0:
        named = (item.brand, item.category) if chance.random() < 0.5 else (item.category,)
        return template.query(" ".join(each for each in named if each)), title
    return template.query(crop(item.title or "", settings.most_words, chance)), title


def crop(title: str, most: int, chance: np.random.Generator) -> str:
    """So many of a title's words at the most, and one at least, in its order."""
    words = title.split()
    count = int(chance.integers(1, min(most, len(words)) + 1))
    places = sorted(chance.choice(len(words), size=count, replace=False).tolist())
    return " ".join(words[place] for place in places)


def steps(
    items: Sequence[Item], settings: WarmUpSettings
) -> Iterator[list[tuple[Item, np.random.Generator]]]:
    """Items of each step, without end: all of the catalogue before one comes again."""
    size, epoch = settings.pairs_per_step, 0
    while True:
        chance = np.random.default_rng((settings.seed, epoch))
        order = chance.permutation(len(items))
        for start in range(0, len(items) - size + 1, size):
            yield [(items[index], chance) for index in order[start : start + size]]
        epoch += 1
