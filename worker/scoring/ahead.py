"""Reading ahead: the catalogue's items that a model has not read yet, for its idle moments.

A worker that has just started, or swapped, knows no item; without this its first events pay for all
of theirs. What is encoded ahead is what would have been encoded on demand, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from worker.events import Item
from worker.ranking.model import Model
from worker.ranking.text import item_text

AT_ONCE = 8  # texts: an event that arrives meanwhile waits for no more than these


def nothing_ahead(_model: Model) -> Sequence[str]:
    """Nothing is known of what will be asked for."""
    return ()


class Ahead:
    """Goes through the catalogue once for each model, and again when it has grown."""

    def __init__(self, items: Mapping[str, Item], capacity: int) -> None:
        self._items, self._capacity = items, capacity
        self._model: Model | None = None
        self._seen = 0
        self._left: Iterator[str] = iter(())

    def __call__(self, model: Model) -> Sequence[str]:
        """The next few texts; none when all are read, or the cache is full."""
        if len(model.readings) >= self._capacity:
            return ()
        if model is not self._model or len(self._items) != self._seen:
            self._model, self._seen = model, len(self._items)
            self._left = self._unread(model, list(self._items.values()))
        return list(islice(self._left, AT_ONCE))

    @staticmethod
    def _unread(model: Model, items: Sequence[Item]) -> Iterator[str]:
        for item in items:
            if item.title and (text := item_text(item, model.template)) not in model.readings:
                yield text
