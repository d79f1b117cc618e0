"""Precision, recall and their mean: what of the list is relevant, and what of that is in the list?

Manning, Raghavan & Schütze, Introduction to Information Retrieval (2008), section 8.3. A list that
is shorter than k counts as one that goes on with what is not relevant, as trec_eval has it.
"""

from __future__ import annotations

from collections.abc import Sequence


def precision(relevant: Sequence[bool], k: int = 10) -> float:
    """The share of the first k places that hold something relevant.

    >>> precision([True, False, True], k=2)
    0.5
    """
    return sum(relevant[:k]) / k


def recall(relevant: Sequence[bool], total: int, k: int = 10) -> float:
    """The share of all `total` relevant items that stand in the first k places; 0 of none.

    >>> recall([True, False, True], total=4, k=3)
    0.5
    """
    return sum(relevant[:k]) / total if total else 0.0


def f1(relevant: Sequence[bool], total: int, k: int = 10) -> float:
    """The harmonic mean of precision and recall at k: 2 hits / (k + total).

    >>> f1([True, False], total=2, k=2)
    0.5
    """
    return 2.0 * sum(relevant[:k]) / (k + total)
