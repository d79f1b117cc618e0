"""Subtopic recall: how much of what a query can mean is shown? (Zhai et al., SIGIR 2003.)"""

from __future__ import annotations

from collections.abc import Sequence


def s_recall(
    ranked: Sequence[frozenset[str]], pool: Sequence[frozenset[str]], k: int = 10
) -> float:
    """The share of the pool's subtopics that the first k items show (equation 1).

    An item is the set of its subtopics, empty where it is not relevant. 0 where the pool has none.

    >>> red, blue = frozenset({"red"}), frozenset({"blue"})
    >>> s_recall([red, red, blue], [red, blue], k=2)
    0.5
    """
    possible = frozenset().union(*pool)
    return len(frozenset().union(*ranked[:k]) & possible) / len(possible) if possible else 0.0
