"""The long tail: how much of a list goes to what few ask for?

Abdollahpouri et al., FLAIRS 2019 ("Managing popularity bias in recommender systems with
personalized re-ranking"): the head is the few items that hold most of the popularity.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

ROUNDING: Final = 1e-12


def popular_head(popularity: Mapping[str, float], share: float = 0.8) -> frozenset[str]:
    """The fewest items that together hold that share of all popularity, the most popular first.

    Of equally popular items those go first whose ids do, so that the head hangs on no order of the
    mapping. Empty where nothing is popular.

    >>> sorted(popular_head({"a": 6, "b": 2, "c": 1, "d": 1}))
    ['a', 'b']
    """
    wanted = share * sum(popularity.values()) * (1.0 - ROUNDING)  # a last bit costs no item
    head: set[str] = set()
    held = 0.0
    for item in sorted(popularity, key=lambda item: (-popularity[item], item)):
        if held >= wanted:
            break
        head.add(item)
        held += popularity[item]
    return frozenset(head)


def long_tail_share(ranked: Sequence[str], head: Collection[str], k: int = 10) -> float:
    """The share of the first k places, those that are filled, that hold an item outside the head;
    0 for an empty list. Its mean over lists is APLT.

    >>> long_tail_share(["a", "c", "d", "b"], head={"a", "b"}, k=3)
    0.6666666666666666
    """
    top = ranked[:k]
    return sum(item not in head for item in top) / len(top) if top else 0.0
