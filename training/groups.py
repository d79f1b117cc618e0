"""Which group each item belongs to, by the words and the matching of the worker's policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

import numpy as np

from training.equity import Fairness
from training.judgments import NO_CATEGORY
from worker.events import Candidate
from worker.policies import Group
from worker.ranking.limits import groups_of
from worker.ranking.model import Integers

REST: Final = "the rest"
NOTHING: Final = ("", NO_CATEGORY)  # texts that name no group
Name = TypeVar("Name", bound=Hashable)


def called(group: Group) -> str:
    """A way to tell items apart, as reports name it.

    >>> called(Group(field="price", low=5, high=20)), called(Group(field="brand"))
    ('price from 5 to 20', 'brand')
    """
    if group.value is not None:
        return f"{group.field} {group.value}"
    low = "" if group.low is None else f" from {group.low:g}"
    high = "" if group.high is None else f" to {group.high:g}"
    return f"{group.field}{low}{high}"


def names_of(group: Group, items: Sequence[Candidate]) -> list[str | None]:
    """The name of each item's group; None where the item carries nothing in the field.

    Where each value is a group, it is one however its letters are written, and "other" is none.
    Where one is meant, the rest is the other.
    """
    values = [_name(key) for key in groups_of(Group(field=group.field), items)]
    if group.value is None and group.low is None and group.high is None:
        return [None if name in NOTHING else name for name in values]
    meant = groups_of(group, items)
    return [
        None if name is None else REST if key is None else called(group)
        for name, key in zip(values, meant, strict=True)
    ]


def large(names: Sequence[Name | None], fewest: int) -> list[Name | None]:
    """The names of which there are `fewest` or more; None for the others."""
    counts = Counter(names)
    return [name if counts[name] >= fewest else None for name in names]


def numbered(lists: Sequence[Sequence[Candidate]], fairness: Fairness) -> list[Integers]:
    """Of each list [n, ways]: the number of each item's group, -1 for none; over all lists, one
    number a group."""
    items = [item for each in lists for item in each]
    columns = [_numbers(large(names_of(way, items), fairness.fewest)) for way in fairness.groups]
    table = np.array(columns, dtype=np.int64).reshape(len(columns), len(items)).T
    return np.split(table, np.cumsum([len(each) for each in lists])[:-1])


def _numbers(names: Sequence[str | None]) -> list[int]:
    known = {name: number for number, name in enumerate(sorted(set(names) - {None}))}  # type: ignore[type-var]  # None is taken out
    return [known.get(name, -1) for name in names]


def _name(key: object) -> str | None:
    """A key of `groups_of` as a word: (kind, value), or the JSON of what is neither text nor
    number."""
    if key is None:
        return None
    if isinstance(key, bytes):
        return key.decode()
    assert isinstance(key, tuple), f"{key!r}: groups_of names groups by pairs or bytes; a bug"
    return str(key[1]).strip().casefold()
