"""Equal coverage and equal opportunity: is each group shown as often as the others?

A candidate has a group, None where it has none, and its place in its query's list, from 1, None
where the list does not hold it. Candidates of many queries stand one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def equal_coverage(
    groups: Sequence[str | None], places: Sequence[int | None], k: int = 10
) -> float:
    """The largest difference between groups in the share of their candidates that the first k
    places show: 0 where each is shown as often, and for fewer than two groups.

    It is the demographic parity difference of being shown (Dwork et al., ITCS 2012: statistical
    parity).

    >>> equal_coverage(["acme", "acme", "birch", "birch"], [1, 2, 3, None], k=3)
    0.5
    """
    return _spread(by_group(groups, _shown(places, k)))


def equal_opportunity(
    groups: Sequence[str | None],
    places: Sequence[int | None],
    relevant: Sequence[bool],
    k: int = 10,
) -> float:
    """The same of the relevant candidates alone: P(shown | group, relevant) (Hardt et al., NeurIPS
    2016, definition 2.2). A group without a relevant candidate does not count.

    >>> equal_opportunity(["acme", "acme", "birch"], [1, None, 2], [True, False, True])
    0.0
    """
    wanted = [group if hit else None for group, hit in zip(groups, relevant, strict=True)]
    return equal_coverage(wanted, places, k)


def by_group(groups: Sequence[str | None], values: Iterable[float]) -> dict[str, float]:
    """The mean of each group's values, in the order of their first; what has no group is left out.

    >>> by_group(["a", "b", None, "a"], [1, 3, 9, 2])
    {'a': 1.5, 'b': 3.0}
    """
    of: dict[str, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        if group is not None:
            of.setdefault(group, []).append(value)
    return {group: sum(each) / len(each) for group, each in of.items()}


def _shown(places: Sequence[int | None], k: int) -> list[bool]:
    return [place is not None and place <= k for place in places]


def _spread(shares: Mapping[str, float]) -> float:
    return max(shares.values(), default=0.0) - min(shares.values(), default=0.0)
