"""How query, history and item become the model's text: the only road from words to the model.

Training takes the same road, so what is learned is what is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from export.bundle import Template
from worker.events import Item
from worker.ranking.join import JoinedSearch


class Fields(Mapping[str, Any]):
    """An item's fields and attributes by name, as a template asks for them."""

    def __init__(self, item: Item) -> None:
        self._item = item

    def __getitem__(self, name: str) -> Any:
        if name in Item.__struct_fields__:
            return getattr(self._item, name)
        return self._item.attributes[name]

    def __iter__(self) -> Any:
        return iter((*Item.__struct_fields__, *self._item.attributes))

    def __len__(self) -> int:
        return len(Item.__struct_fields__) + len(self._item.attributes)


def query_text(search: JoinedSearch, template: Template) -> str | None:
    """The text of the query; None where it is empty."""
    query = search.query
    return template.query(query) if query.strip() else None


def item_text(item: Item, template: Template) -> str:
    """The text of an item."""
    return template.render(Fields(item))


def category_text(name: str, template: Template) -> str:
    """The text of a category's name: it is compared with items, so it is written like one."""
    return template.item_before + name


def pair_texts(
    search: JoinedSearch, rows: Iterable[int], template: Template
) -> list[tuple[str, str]]:
    """The texts of the query, with what the user acted on, and of some candidates, as a pair model
    reads them together. Of two items of one weight the one with the smaller id tells more."""
    past = sorted(search.history, key=lambda known: -known[1])
    query = template.asked(search.query, (Fields(item) for item, _ in past))
    return [(query, item_text(search.entries[row].item, template)) for row in rows]


def texts(
    searches: Sequence[JoinedSearch],
    template: Template,
    categories: tuple[str, ...],
    category_head: bool = False,
) -> tuple[str, ...]:
    """Every text whose vector these searches need, each once, in order of first need.

    `categories` are the model's own; where it has none, those of the search stand in. A model with
    a category head needs no names.
    """
    wanted: dict[str, None] = {}
    for search in searches:
        if (query := query_text(search, template)) is not None:
            wanted[query] = None
        for entry in search.entries:
            wanted[item_text(entry.item, template)] = None
        for item, _ in search.history:
            wanted[item_text(item, template)] = None
        if search.categories and not category_head:
            for name in categories or search.categories:
                wanted[category_text(name, template)] = None
    return tuple(wanted)
