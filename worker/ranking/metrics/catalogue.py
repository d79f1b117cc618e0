"""Catalogue coverage: how much of a catalogue does any list show? (Ge et al., RecSys 2010.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence


def catalogue_coverage(
    lists: Iterable[Sequence[str]], catalogue: Collection[str], k: int = 10
) -> float:
    """The share of the catalogue's items that stand in the first k places of any list; 0 of none.

    >>> catalogue_coverage([["a", "b"], ["a", "c"]], ["a", "b", "c", "d"], k=1)
    0.25
    """
    counts = times_shown(lists, catalogue, k)
    return sum(count > 0 for count in counts.values()) / len(counts) if counts else 0.0


def times_shown(
    lists: Iterable[Sequence[str]], catalogue: Collection[str], k: int = 10
) -> dict[str, int]:
    """Of each item of the catalogue, how often it stands in the first k places; 0 where it never
    does. What the catalogue does not have is not counted.

    >>> times_shown([["a", "b"], ["a", "x"]], ["a", "b", "c"])
    {'a': 2, 'b': 1, 'c': 0}
    """
    shown = Counter(item for ranked in lists for item in ranked[:k])
    return {item: shown[item] for item in catalogue}
